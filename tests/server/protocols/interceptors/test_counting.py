"""What is counted of calls of every kind, however they end, on a real port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from bertstream.server.core import errors
from bertstream.server.protocols.call import CURRENT, Call, Stream
from bertstream.server.protocols.decoding import decoder
from bertstream.server.protocols.interceptors.chain import Chain
from bertstream.server.protocols.interceptors.counting import CallMeasures, count_calls, exemplar
from bertstream.server.protocols.interceptors.errors import answer_errors
from bertstream.server.protocols.interceptors.links import EVERY
from bertstream.v1 import models_pb2
from bertstream.workers.measuring import frontend_metrics as metrics
from bertstream.workers.measuring.instruments import Registry
from bertstream.workers.measuring.snapshots import Distribution
from tests.support.statuses import refusal
from tests.support.waiting import until, with_more_time

SERVICE = "test.v1.Counted"
Request, Answer = models_pb2.GetModelRequest, models_pb2.GetModelRequest
BEGUN: list[str] = []  # the slow calls that have begun


async def unary(request: Any, context: Any) -> Any:
    return Answer(name=request.value().name * 2)


async def refused(request: Any, context: Any) -> Any:
    raise errors.overloaded("too much", 1.0)


async def slow(request: Any, context: Any) -> Any:
    BEGUN.append(request.value().name)
    await asyncio.sleep(60)


async def streamed(_: Any, context: Any) -> None:
    stream: Stream[Any] = Stream(context)
    CURRENT.get().holding = SimpleNamespace(
        items=SimpleNamespace(held=3), tokens=SimpleNamespace(held=40), request_bytes=SimpleNamespace(held=500)
    )
    async for message in stream:
        CURRENT.get().refused("item", "INVALID_UTF8")
        await stream.write(message.value())


METHODS: dict[str, Any] = {
    "Unary": (grpc.unary_unary_rpc_method_handler, unary),
    "Refused": (grpc.unary_unary_rpc_method_handler, refused),
    "Slow": (grpc.unary_unary_rpc_method_handler, slow),
    "Streamed": (grpc.stream_stream_rpc_method_handler, streamed),
}


class Served:
    """A server that counts, and a client of it."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.channel: grpc.aio.Channel

    def call(self, method: str, name: str = "abc", **options: Any) -> Any:
        made: Any = self.channel.unary_unary(f"/{SERVICE}/{method}")
        return made(Request(name=name).SerializeToString(), **options)

    def ended(self, method: str, status: str) -> int:
        found = self.distribution(metrics.CALL_DURATION.name, method, status)
        return found.count if found else 0

    def distribution(self, name: str, method: str, status: str) -> Distribution | None:
        full = method if method == "other" else f"{SERVICE}/{method}"
        found = self.registry.snapshot().distributions
        return next((each for each in found if each.key == (name, (full, status))), None)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served()
    measures = CallMeasures(made.registry, [f"{SERVICE}/{method}" for method in METHODS])
    server = grpc.aio.server(interceptors=(Chain(((count_calls(measures), EVERY), (answer_errors, EVERY))),))
    handlers = {
        name: make(function, decoder(Request, 1 << 16), Answer.SerializeToString)
        for name, (make, function) in METHODS.items()
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    BEGUN.clear()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as made.channel:
        yield made
    await server.stop(None)


async def test_a_call_is_counted_with_its_sizes(served: Served) -> None:
    request, answer = Request(name="abc").ByteSize(), Answer(name="abcabc").ByteSize()
    for _ in range(3):
        assert Answer.FromString(await served.call("Unary")).name == "abcabc"
    await until(lambda: served.ended("Unary", "OK") == 3)
    sent = served.distribution(metrics.CALL_SENT.name, "Unary", "OK")
    received = served.distribution(metrics.CALL_RECEIVED.name, "Unary", "OK")
    assert sent is not None
    assert received is not None
    assert (sent.count, sent.total, received.count, received.total) == (3, 3 * answer, 3, 3 * request)
    assert served.registry.snapshot().value(metrics.CALLS_STARTED.name, f"{SERVICE}/Unary") == 3


async def test_a_refusal_is_counted_by_status_and_reason(served: Served) -> None:
    assert (await refusal(served.call("Refused"))).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    await until(lambda: served.ended("Refused", "RESOURCE_EXHAUSTED") == 1)
    found = served.registry.snapshot()
    assert found.value(metrics.REFUSALS.name, "OVERLOADED", "call") == 1


async def test_a_missing_method_is_one_of_the_others(served: Served) -> None:
    for method in ("Nothing", "Else"):
        await refusal(served.call(method))
    await until(lambda: served.ended("other", "UNIMPLEMENTED") == 2)
    assert served.registry.snapshot().value(metrics.CALLS_STARTED.name, "other") == 2


async def test_who_leaves_and_whose_time_is_over_are_told_apart(served: Served) -> None:
    call = served.call("Slow")
    waiting = asyncio.ensure_future(call)
    await until(lambda: BEGUN)
    assert served.registry.snapshot().value(metrics.CALLS_UNDER_WAY.name) == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: served.ended("Slow", "CANCELLED") == 1)

    async def late(seconds: float) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await served.call("Slow", timeout=seconds)
        await until(lambda: served.registry.snapshot().value(metrics.CALLS_UNDER_WAY.name) == 0)

    # Time enough to come to the server first, and not much later than the caller's clock has begun to run.
    await with_more_time(late, lambda: served.ended("Slow", "DEADLINE_EXCEEDED") == 1, 0.5)


async def test_a_stream_adds_up_its_messages_and_shows_what_it_holds(served: Served) -> None:
    made: Any = served.channel.stream_stream(f"/{SERVICE}/Streamed")
    stream = made()
    message = Request(name="abc").SerializeToString()
    for _ in range(2):
        await stream.write(message)
        assert await stream.read() == message
    found = served.registry.snapshot()
    held = (metrics.STREAMS, metrics.STREAM_ITEMS, metrics.STREAM_TOKENS, metrics.STREAM_BYTES)
    assert [found.value(each.name) for each in held] == [1, 3, 40, 500]
    assert found.value(metrics.REFUSALS.name, "INVALID_UTF8", "item") == 2
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    await until(lambda: served.ended("Streamed", "OK") == 1)
    for metric in (metrics.CALL_SENT, metrics.CALL_RECEIVED):
        sizes = served.distribution(metric.name, "Streamed", "OK")
        assert sizes is not None
        assert sizes.total == 2 * len(message)
    assert served.registry.snapshot().value(metrics.STREAMS.name) == 0


@pytest.mark.parametrize(
    ("request_id", "trace_id", "found"),
    [
        ("ab", "", (("request_id", "ab"),)),
        ("ab", "0" * 32, (("trace_id", "0" * 32), ("request_id", "ab"))),
        ("x" * 79, "0" * 32, (("trace_id", "0" * 32),)),  # as a caller may give it, and too long beside the other
        ("x" * 128, "", ()),
    ],
)
def test_an_exemplar_has_no_more_than_128_characters(
    request_id: str, trace_id: str, found: tuple[tuple[str, str], ...]
) -> None:
    call: Any = SimpleNamespace(request_id=request_id, trace_id=trace_id)
    of: Call = call
    assert exemplar(of) == found
