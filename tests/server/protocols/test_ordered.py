"""Answer streams in order, over a real connection, with work that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from bertstream.server.core import errors
from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.frontend.links import chain
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.ordered import OrderedStream, Step
from bertstream.server.protocols.rpc import add_service
from bertstream.v1 import encoding_pb2 as e
from tests.support.hosted import LIMITS
from tests.support.statuses import refusal
from tests.support.waiting import until

SERVICE = e.DESCRIPTOR.services_by_name["EncodingService"]
Response = e.StreamEncodingsResponse


def request(number: int) -> e.StreamEncodingsRequest:
    return e.StreamEncodingsRequest(items=e.EncodingItems(first_id=number))


def answer(number: int, size: int = 0) -> Response:
    items = e.EncodedItems(ids=[number])
    items.encodings.pooled.data = bytes(size)
    return Response(items=items)


class Servicer:
    """Run every stream as an OrderedStream; the test says what a message costs, and how it is answered."""

    def __init__(self) -> None:
        self.limits = replace(LIMITS, stream_items=8, stream_tokens=100)
        self.prepared: list[int] = []
        self.answered: list[int] = []
        self.cost = 1
        self.prepare: Callable[[int], Awaitable[None]] = self._nothing
        self.answer: Callable[[int], Awaitable[Response]] = self._echo
        self.stream: OrderedStream[Response]

    async def run(self, stream: Stream[Any], call: Call) -> None:
        self.stream = OrderedStream(stream, call, self.limits, self._step)
        await self.stream.run()

    async def _step(self, decoded: Decoded[e.StreamEncodingsRequest], number: int) -> Step[Response]:
        name = decoded.value().items.first_id
        assert name == number
        await self.prepare(name)
        self.prepared.append(name)
        return Step(self.cost, lambda: self._answered(name))

    async def _answered(self, name: int) -> Response:
        made = await self.answer(name)
        self.answered.append(name)
        return made

    async def _nothing(self, name: int) -> None:
        return

    async def _echo(self, name: int) -> Response:
        return answer(name)


class Served:
    def __init__(self, servicer: Servicer, channel: grpc.aio.Channel) -> None:
        self.servicer = servicer
        self._method: Any = channel.stream_stream(
            "/bertstream.v1.EncodingService/StreamEncodings",
            request_serializer=e.StreamEncodingsRequest.SerializeToString,
            response_deserializer=Response.FromString,
        )

    async def open(self, count: int) -> Any:
        """Begin a stream of so many messages, which goes on after them."""
        call = self._method()
        for number in range(count):
            await call.write(request(number))
        return call


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    server, servicer = grpc.aio.server(interceptors=(chain(Gate(100), Keys()),)), Servicer()
    add_service(server, SERVICE, {method.name: servicer.run for method in SERVICE.methods}, 1 << 20)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(servicer, channel)
    await server.stop(None)


async def settle() -> None:
    """Give the server, in this event loop, enough time to do all that it can do."""
    for _ in range(30):
        await asyncio.sleep(0.002)


async def numbers(call: Any) -> list[int]:
    """Read to the end of a stream."""
    await call.done_writing()
    return [message.items.ids[0] async for message in call]


async def test_answers_come_in_the_order_of_the_messages_whenever_they_are_made(served: Served) -> None:
    gates = [asyncio.Event() for _ in range(6)]

    async def wait(name: int) -> Response:
        await gates[name].wait()
        return answer(name)

    served.servicer.answer = wait
    call = await served.open(6)
    for number in (5, 3, 1, 4, 2):
        gates[number].set()
        await until(lambda last=number: last in served.servicer.answered)  # type: ignore[misc]
    gates[0].set()
    assert await numbers(call) == list(range(6))
    assert served.servicer.answered == [5, 3, 1, 4, 2, 0]


async def test_room_is_given_back_as_answers_go_out(served: Served) -> None:
    served.servicer.cost = 60
    assert await numbers(await served.open(30)) == list(range(30))
    stream = served.servicer.stream
    assert (stream.items.held, stream.tokens.held, stream.request_bytes.held) == (0, 0, 0)


async def test_the_first_message_has_its_room_before_all_others(served: Served) -> None:
    """However long it takes to prepare, none behind it can hold the room that it waits for."""
    first = asyncio.Event()

    async def wait(name: int) -> None:
        await (first.wait() if name == 0 else asyncio.sleep(0))

    served.servicer.prepare, served.servicer.cost = wait, 100
    call = await served.open(5)
    await until(lambda: served.servicer.prepared == [1, 2, 3, 4])
    await settle()
    assert (served.servicer.answered, served.servicer.stream.tokens.held) == ([], 0)
    first.set()
    assert await numbers(call) == list(range(5))
    assert served.servicer.answered == list(range(5))


async def test_a_few_messages_are_prepared_side_by_side(served: Served) -> None:
    served.servicer.limits = replace(LIMITS, stream_items=100)
    waiting, gate = 0, asyncio.Event()

    async def wait(name: int) -> None:
        nonlocal waiting
        waiting += 1
        await gate.wait()

    served.servicer.prepare = wait
    call = await served.open(50)
    await settle()
    assert 2 <= waiting <= 10
    gate.set()
    assert await numbers(call) == list(range(50))


@pytest.mark.parametrize(("cost", "begun"), [(1, 8), (40, 2)])
async def test_the_window_bounds_what_is_begun(served: Served, cost: int, begun: int) -> None:
    gate, computing = asyncio.Event(), list[int]()

    async def wait(name: int) -> Response:
        computing.append(name)
        await gate.wait()
        return answer(name)

    served.servicer.answer, served.servicer.cost = wait, cost
    call = await served.open(20)
    await settle()
    assert computing == list(range(begun))
    assert served.servicer.stream.items.held <= 8
    gate.set()
    assert await numbers(call) == list(range(20))


async def test_a_caller_that_does_not_read_stops_the_server(served: Served) -> None:
    async def large(name: int) -> Response:
        return answer(name, 200_000)

    served.servicer.answer = large
    call = await served.open(100)
    before = -1
    while len(served.servicer.answered) != before:  # until the server makes no more answers
        before = len(served.servicer.answered)
        await settle()
    assert 1 <= before < 100
    assert await numbers(call) == list(range(100))


@pytest.mark.parametrize("early", [False, True])
async def test_an_error_ends_the_stream_behind_all_answers_before_it(served: Served, early: bool) -> None:
    gate = asyncio.Event()

    async def fail(name: int) -> None:
        if name == 3:
            raise errors.invalid("inputs", "is bad")

    async def wait(name: int) -> Response:
        await gate.wait()
        if not early:
            await fail(name)
        return answer(name)

    served.servicer.answer = wait
    if early:
        served.servicer.prepare = fail
    call = await served.open(6)
    await settle()
    gate.set()
    assert [(await call.read()).items.ids[0] for _ in range(3)] == [0, 1, 2]
    found = await refusal(call.read())
    assert (found.code, found.message) == (grpc.StatusCode.INVALID_ARGUMENT, "inputs: is bad")


async def test_a_bug_ends_the_stream_and_says_nothing(served: Served) -> None:
    async def fail(name: int) -> Response:
        raise KeyError("secret")

    served.servicer.answer = fail
    found = await refusal((await served.open(1)).read())
    assert (found.code, "secret" in found.message) == (grpc.StatusCode.INTERNAL, False)


async def test_work_ends_with_a_call_that_is_cancelled(served: Served) -> None:
    ended: list[int] = []

    async def wait(name: int) -> Response:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)
        return answer(name)

    served.servicer.answer = wait
    call = await served.open(3)
    await until(lambda: len(served.servicer.prepared) == 3)
    await settle()
    call.cancel()
    await until(lambda: sorted(ended) == [0, 1, 2])
