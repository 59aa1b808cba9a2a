"""The chain around plain handlers of every kind, on a real port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from bertstream.server.core import errors
from bertstream.server.protocols.call import CURRENT, Call, CallerGone
from bertstream.server.protocols.interceptors.chain import Chain
from bertstream.server.protocols.interceptors.errors import answer_errors
from bertstream.server.protocols.interceptors.links import EVERY, Kind, Link, Proceed
from bertstream.server.protocols.interceptors.logs import log_call
from tests.support.statuses import refusal
from tests.support.waiting import until

OURS, STANDARD = "test.v1.Ours", "test.v1.Standard"


async def unary(request: bytes, context: Any) -> bytes:
    return b"<" + request + b">"


async def generated(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"%d" % number + request


async def written(request: bytes, context: Any) -> None:
    await context.write(request)
    await context.write(request)


async def summed(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"".join([each async for each in requests])


async def echoed(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for each in requests:
        yield each


async def failing(request: bytes, context: Any) -> bytes:
    raise KeyError("secret")


async def failing_late(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"first"
    raise KeyError("secret")


async def aborting(request: bytes, context: Any) -> None:
    await context.abort(grpc.StatusCode.NOT_FOUND, "its own words")


async def left(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"first"
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise CallerGone from None  # as a write does that finds no connection


METHODS: dict[str, Any] = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Generated": grpc.unary_stream_rpc_method_handler(generated),
    "Written": grpc.unary_stream_rpc_method_handler(written),
    "Summed": grpc.stream_unary_rpc_method_handler(summed),
    "Echoed": grpc.stream_stream_rpc_method_handler(echoed),
    "Failing": grpc.unary_unary_rpc_method_handler(failing),
    "FailingLate": grpc.unary_stream_rpc_method_handler(failing_late),
    "Aborting": grpc.unary_unary_rpc_method_handler(aborting),
    "Left": grpc.unary_stream_rpc_method_handler(left),
}


class Recorder:
    """A link that records under its name when calls begin and end."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        self._notes.append(f"{self._name} begins {call.method}")
        try:
            return await proceed()
        finally:
            self._notes.append(f"{self._name} ends {call.code}")


Serve = Callable[..., Awaitable[grpc.aio.Channel]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    ends: list[Callable[[], Awaitable[Any]]] = []

    async def start(*links: tuple[Link, Kind]) -> grpc.aio.Channel:
        server = grpc.aio.server(interceptors=(Chain(links, (STANDARD,)),))
        for name in (OURS, STANDARD):
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, METHODS)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        ends.extend((channel.close, lambda: server.stop(None)))
        return channel

    yield start
    for end in ends:
        await end()


def called(channel: grpc.aio.Channel, method: str, *requests: bytes, service: str = OURS) -> Any:
    """Begin a call of the method's own kind, unary or streaming."""
    handler = METHODS.get(method, METHODS["Unary"])
    kind = {(False, False): "unary_unary", (False, True): "unary_stream", (True, False): "stream_unary"}
    name = kind.get((handler.request_streaming, handler.response_streaming), "stream_stream")
    multi: Any = getattr(channel, name)(f"/{service}/{method}")
    return multi(iter(requests) if handler.request_streaming else requests[0])


@pytest.mark.parametrize("method", ["Generated", "Written", "Echoed"])
async def test_what_streams_goes_through_whole(serve: Serve, method: str) -> None:
    notes: list[str] = []
    channel = await serve((Recorder("a", notes), EVERY))
    answers = [each async for each in called(channel, method, b"x", b"y")]
    assert answers == {"Generated": [b"0x", b"1x", b"2x"], "Written": [b"x", b"x"], "Echoed": [b"x", b"y"]}[method]
    assert notes == [f"a begins {OURS}/{method}", "a ends OK"]


@pytest.mark.parametrize(("method", "answer"), [("Unary", b"<x>"), ("Summed", b"xy")])
async def test_what_has_one_answer_goes_through(serve: Serve, method: str, answer: bytes) -> None:
    notes: list[str] = []
    channel = await serve((Recorder("a", notes), EVERY))
    assert await called(channel, method, b"x", b"y") == answer
    assert notes == [f"a begins {OURS}/{method}", "a ends OK"]


async def test_the_first_link_is_outermost_and_each_kind_passes_its_own(serve: Serve) -> None:
    notes: list[str] = []
    links = {name: Recorder(name, notes) for name in "abc"}
    channel = await serve(
        (links["a"], EVERY), (answer_errors, EVERY), (links["b"], Kind.OURS), (links["c"], Kind.OURS | Kind.STANDARD)
    )
    await called(channel, "Unary", b"")
    assert [note[:3] for note in notes] == ["a b", "b b", "c b", "c e", "b e", "a e"]
    notes.clear()
    await called(channel, "Unary", b"", service=STANDARD)
    assert [note[:3] for note in notes] == ["a b", "c b", "c e", "a e"]
    notes.clear()
    await refusal(called(channel, "Nothing", b""))
    await until(lambda: len(notes) == 2)  # the caller may know before
    assert notes == [f"a begins {OURS}/Nothing", "a ends UNIMPLEMENTED"]


async def test_a_link_refuses_by_who_calls_what(serve: Serve) -> None:
    async def keys(call: Call, proceed: Proceed) -> Any:
        assert call.peer.startswith("ipv4:127.0.0.1:")
        if call.method.endswith("/Unary") and call.metadata.get("key") != "right":
            raise errors.not_available("the key is wrong")
        return await proceed()

    channel = await serve((answer_errors, EVERY), (keys, Kind.OURS))
    method: Any = channel.unary_unary(f"/{OURS}/Unary")
    found = await refusal(method(b"", metadata=(("key", "left"),)))
    assert (found.code, found.message) == (grpc.StatusCode.FAILED_PRECONDITION, "the key is wrong")
    assert await method(b"", metadata=(("key", "right"),)) == b"<>"


@pytest.mark.parametrize("service", [OURS, STANDARD])
@pytest.mark.parametrize("method", ["Failing", "FailingLate"])
async def test_a_bug_in_any_service_is_internal_and_tells_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture, service: str, method: str
) -> None:
    channel = await serve((answer_errors, EVERY))
    call = called(channel, method, b"", service=service)
    if method == "FailingLate":
        assert await call.read() == b"first"
        call = call.read()
    found = await refusal(call)
    assert (found.code, found.info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert found.trailing["x-request-id"] == found.request.request_id != ""
    assert "secret" not in found.message + str(found.status)
    assert [record.getMessage() for record in caplog.records] == [f"{service}/{method} failed"]


async def test_a_service_that_aborts_by_itself_keeps_its_words_and_gets_the_request_id(serve: Serve) -> None:
    channel = await serve((answer_errors, EVERY))
    method: Any = channel.unary_unary(f"/{STANDARD}/Aborting")
    found = await refusal(method(b"", metadata=(("x-request-id", "mine"),)))
    assert (found.code, found.message) == (grpc.StatusCode.NOT_FOUND, "its own words")
    assert found.trailing["x-request-id"] == "mine"


async def test_a_caller_that_is_gone_is_no_error(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bertstream")
    channel = await serve((log_call, EVERY), (answer_errors, EVERY))
    call = called(channel, "Left", b"")
    assert await call.read() == b"first"
    call.cancel()
    await until(lambda: caplog.records)
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [(logging.DEBUG, f"{OURS}/Left CANCELLED")]


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_methods_that_are_not_there(serve: Serve, kind: str) -> None:
    channel = await serve((answer_errors, EVERY))
    multi: Any = getattr(channel, kind)(f"/{OURS}/Encode")
    # Streams write nothing, since gRPC's client reports INTERNAL for a write after the end of its call.
    call = multi(b"x") if kind.startswith("unary") else multi()
    found = await refusal(call.read() if kind.endswith("stream") else call)
    assert (found.code, found.info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND")
    assert found.message == f"there is no method '{OURS}/Encode'"
    assert len(str(found.trailing["x-request-id"])) == 32


async def test_calls_at_the_same_time_have_each_their_own(serve: Serve) -> None:
    seen: list[bool] = []

    async def compare(call: Call, proceed: Proceed) -> Any:
        await asyncio.sleep(0.01)
        seen.append(CURRENT.get() is call)
        return await proceed()

    channel = await serve((compare, EVERY))
    await asyncio.gather(*(called(channel, "Unary", b"") for _ in range(5)))
    assert seen == [True] * 5


async def test_what_a_call_holds_is_let_go_before_the_links_end(serve: Serve) -> None:
    notes: list[str] = []

    async def hold(call: Call, proceed: Proceed) -> Any:
        call.until_end.callback(notes.append, "let go")
        return await proceed()

    channel = await serve((Recorder("a", notes), EVERY), (hold, EVERY))
    await called(channel, "Unary", b"")
    assert notes == [f"a begins {OURS}/Unary", "let go", "a ends OK"]
