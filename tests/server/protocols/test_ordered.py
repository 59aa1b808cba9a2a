"""Answer streams in order, over a real connection, with work that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from bertstream.server.core import errors
from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.frontend.links import chain
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.ordered import Group, GroupAnswers, OrderedStream
from bertstream.server.protocols.rpc import add_service
from bertstream.v1 import encoding_pb2 as e
from bertstream.v1 import types_pb2 as y
from tests.support.hosted import LIMITS
from tests.support.statuses import refusal
from tests.support.waiting import until

SERVICE = e.DESCRIPTOR.services_by_name["EncodingService"]
Response = e.StreamEncodingsResponse


def request(number: int, size: int = 0) -> e.StreamEncodingsRequest:
    inputs = y.TextBatch(texts=y.Texts(texts=["x" * size] if size else []))
    return e.StreamEncodingsRequest(items=e.EncodingItems(first_id=number, inputs=inputs))


def answer(number: int, size: int = 0) -> Response:
    items = e.EncodedItems(ids=[number])
    items.encodings.pooled.data = bytes(size)
    return Response(items=items)


class Servicer:
    """Run every stream as an OrderedStream; the test says what a message costs, and how it is answered."""

    def __init__(self) -> None:
        self.limits = replace(LIMITS, stream_items=8, stream_tokens=100)
        self.prepared: list[int] = []
        self.groups: list[list[int]] = []  # those whose preparation has begun
        self.jobs: list[tuple[int, int]] = []  # the first and the last message of what was computed at once
        self.answered: list[int] = []
        self.cost = 1
        self.key: Callable[[Decoded[Any], int], object] = lambda decoded, number: None
        self.prepare: Callable[[int], Awaitable[None]] = self._nothing
        self.answer: Callable[[int], Awaitable[Response]] = self._echo
        self.stream: Any = None  # the OrderedStream, once there is one

    async def run(self, stream: Stream[Any], call: Call) -> None:
        self.stream = OrderedStream(stream, call, self.limits, self._group, self.key)
        await self.stream.run()

    async def _group(self, messages: Sequence[Decoded[e.StreamEncodingsRequest]], number: int) -> Group[Response]:
        names = [message.value().items.first_id for message in messages]
        assert names == list(range(number, number + len(names)))
        self.groups.append(names)
        error, costs = None, []
        for name in names:
            try:
                await self.prepare(name)
            except errors.RequestError as raised:
                error = raised
                break
            self.prepared.append(name)
            costs.append(self.cost)

        async def answer(first: int, last: int) -> GroupAnswers[Response]:
            self.jobs.append((names[first], names[last - 1]))
            made = await asyncio.gather(*(self._answered(name) for name in names[first:last]))
            good = [each for each in made if not isinstance(each, errors.RequestError)]
            failed = [each for each in made if isinstance(each, errors.RequestError)]
            return GroupAnswers(good, failed[0] if failed else None)

        return Group(np.array(costs, np.int64), answer, error)

    async def _answered(self, name: int) -> Response | errors.RequestError:
        try:
            made = await self.answer(name)
        except errors.RequestError as error:
            return error
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

    async def open(self, count: int, size: int = 0) -> Any:
        """Begin a stream of so many messages with so many bytes, which goes on after them."""
        call = self._method()
        for number in range(count):
            await call.write(request(number, size))
        return call

    async def holds(self, count: int) -> None:
        """Wait until the stream has taken so many messages, and then give it time for more."""
        await until(lambda: self.servicer.stream is not None and self.servicer.stream.items.held >= count)
        await settle()


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
    await served.holds(50)
    assert waiting == 2
    gate.set()
    assert await numbers(call) == list(range(50))


async def test_what_was_read_meanwhile_becomes_a_group(served: Served) -> None:
    """The first messages wait for nobody, and those that come while they are prepared go together."""
    served.servicer.limits = replace(LIMITS, stream_items=100)
    gate = asyncio.Event()
    served.servicer.prepare = lambda name: gate.wait()  # type: ignore[assignment,return-value]
    call = await served.open(40)
    await served.holds(40)
    begun = [name for group in served.servicer.groups for name in group]
    assert len(served.servicer.groups) == 2
    gate.set()
    assert await numbers(call) == list(range(40))
    assert served.servicer.groups[2] == list(range(len(begun), 40))
    assert served.servicer.jobs[-1] == (len(begun), 39) == (served.servicer.groups[2][0], 39)


async def test_groups_grow_where_many_are_computed_already(served: Served) -> None:
    served.servicer.limits = replace(LIMITS, stream_items=100)
    gate = asyncio.Event()

    async def wait(name: int) -> Response:
        await gate.wait()
        return answer(name)

    served.servicer.answer = wait
    call = await served.open(0)
    for number in range(16):
        await call.write(request(number))
        await until(lambda last=number: served.servicer.groups[-1:] == [[last]])  # type: ignore[misc]
    for number in range(16, 40):
        await call.write(request(number))
    await served.holds(40)
    before = len(served.servicer.groups)
    assert before == 16
    gate.set()
    assert await numbers(call) == list(range(40))
    assert [len(group) for group in served.servicer.groups[:before]] == [1] * before
    assert len(served.servicer.groups) == before + 1


async def test_only_what_is_alike_is_a_group(served: Served) -> None:
    served.servicer.limits = replace(LIMITS, stream_items=100)
    served.servicer.key = lambda decoded, number: number // 10
    gate = asyncio.Event()
    served.servicer.prepare = lambda name: gate.wait()  # type: ignore[assignment,return-value]
    call = await served.open(30)
    await served.holds(30)
    gate.set()
    assert await numbers(call) == list(range(30))
    assert [name for group in served.servicer.groups for name in group] == list(range(30))
    assert all(group[0] // 10 == group[-1] // 10 for group in served.servicer.groups)
    assert served.servicer.groups[-1] == list(range(20, 30))


@pytest.mark.parametrize(("size", "most"), [(0, 256), (80_000, 3), (300_000, 1)])
async def test_groups_are_bounded_by_items_and_bytes(served: Served, size: int, most: int) -> None:
    served.servicer.limits = replace(LIMITS, stream_items=1000)
    gate = asyncio.Event()
    served.servicer.prepare = lambda name: gate.wait()  # type: ignore[assignment,return-value]
    count = 20 if size else 600
    call = await served.open(count, size)
    await served.holds(count)
    gate.set()
    assert len(await numbers(call)) == count
    assert max(map(len, served.servicer.groups)) == most


async def test_a_group_of_many_tokens_becomes_several_jobs(served: Served) -> None:
    served.servicer.limits, served.servicer.cost = replace(LIMITS, stream_items=100, stream_tokens=80), 4
    gate = asyncio.Event()
    served.servicer.prepare = lambda name: gate.wait()  # type: ignore[assignment,return-value]
    call = await served.open(40)
    await served.holds(40)
    gate.set()
    assert await numbers(call) == list(range(40))
    assert {last - first + 1 for first, last in served.servicer.jobs} <= {1, 2}  # an eighth of the window
    assert served.servicer.stream.tokens.held == 0


@pytest.mark.parametrize(("cost", "begun"), [(1, 8), (40, 2)])
async def test_the_window_bounds_what_is_begun(served: Served, cost: int, begun: int) -> None:
    gate, computing = asyncio.Event(), list[int]()

    async def wait(name: int) -> Response:
        computing.append(name)
        await gate.wait()
        return answer(name)

    served.servicer.answer, served.servicer.cost = wait, cost
    call = await served.open(20)
    await until(lambda: len(computing) >= begun)
    await served.holds(8)
    assert computing == list(range(begun))
    assert served.servicer.stream.items.held <= 8
    gate.set()
    assert await numbers(call) == list(range(20))


async def test_a_caller_that_does_not_read_stops_the_server(served: Served) -> None:
    async def large(name: int) -> Response:
        return answer(name, 200_000)

    served.servicer.answer = large
    call = await served.open(100)
    await until(lambda: served.servicer.answered)
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
        if not early and name >= 3:
            raise errors.invalid("inputs", "is bad")
        return answer(name)

    served.servicer.answer = wait
    if early:
        served.servicer.prepare = fail
    call = await served.open(6)
    await served.holds(6)
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
    begun: list[int] = []
    ended: list[int] = []

    async def wait(name: int) -> Response:
        begun.append(name)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)
        return answer(name)

    served.servicer.answer = wait
    call = await served.open(3)
    await until(lambda: sorted(begun) == [0, 1, 2])
    call.cancel()
    await until(lambda: sorted(ended) == [0, 1, 2])
