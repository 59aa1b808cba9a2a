"""Serve streams whose messages have no ids: each is answered by one message, in the order in which they came.

The reader takes messages while the window has room. Those that are there when the next may be prepared, and are alike,
are prepared together, as a group, and become one job: a lone message waits for no other, and the more a caller sends,
the larger groups are. In the order of the messages each group takes its room in tokens, so that none waits for room
that is held by those behind it, and is computed; the writer sends the answers in turn. A message that cannot be
answered ends the stream, behind all answers before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from bertstream.server.core import tracing
from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.window import Window, ended_by_one_error
from bertstream.server.settings import Limits
from bertstream.workers.ragged import pieces_of

Response = TypeVar("Response", bound=Message)
Made = TypeVar("Made")
_SIDE_BY_SIDE = 2  # groups of one stream that are prepared at once, as threads that tokenize are for all callers
_UNDER_WAY = 16  # groups that are not computed yet; beyond them groups grow, as more of them would make nothing faster
_GROUP_ITEMS, _GROUP_BYTES = 256, 1 << 18  # the most of a group, unless it is one message
_GROUP_PART = 8  # at most 1 in 8 tokens of the window become one job, so that some are read while others are written


@dataclass(frozen=True, slots=True)
class GroupAnswers(Generic[Response]):
    """Hold the answers to consecutive messages, up to the first that has an error in place of one."""

    good: Sequence[Response]
    error: RequestError | None = None


@dataclass(frozen=True, slots=True)
class Group(Generic[Response]):
    """Hold what is left to do for consecutive messages, up to the first that could not be prepared."""

    costs: NDArray[np.int64]  # [n] of the window, in tokens, until its answer is written
    answer: Callable[[int, int], Awaitable[GroupAnswers[Response]]]  # those from `first` up to `last`
    error: RequestError | None = None  # of the message behind them


def alone(cost: int, answer: Callable[[], Awaitable[Response]]) -> Group[Response]:
    """Return a group of one message, whose `answer` may raise RequestError."""

    async def answers(first: int, last: int) -> GroupAnswers[Response]:
        return GroupAnswers([await answer()])

    return Group(np.array([cost], np.int64), answers)


@dataclass(frozen=True, slots=True)
class _Read:
    """Hold a message that was read."""

    decoded: Decoded[Any]
    number: int  # of messages before it
    size: int  # its bytes
    key: Hashable


@dataclass(frozen=True, slots=True)
class _Grouped(Generic[Response]):
    """Hold messages that are being prepared together."""

    group: asyncio.Task[Group[Response] | RequestError]
    sizes: Sequence[int]  # of each, in bytes


@dataclass(frozen=True, slots=True)
class _Due(Generic[Response]):
    """Hold the answers that are due, and the room that each takes until it is written."""

    answers: asyncio.Task[GroupAnswers[Response]]
    tokens: Sequence[int]
    sizes: Sequence[int]  # bytes of the requests


class OrderedStream(Window, Generic[Response]):
    """Run one stream.

    `prepare` does the work for messages that comes before they are computed. It is told how many messages came before
    them, and raises RequestError where the first of them cannot be answered. `key` says which messages are alike: those
    for which it returns equal values.
    """

    def __init__(
        self,
        stream: Stream[Any],
        call: Call,
        limits: Limits,
        prepare: Callable[[Sequence[Decoded[Any]], int], Awaitable[Group[Response]]],
        key: Callable[[Decoded[Any], int], Hashable],
    ) -> None:
        super().__init__(call, limits.stream_items, limits.stream_tokens)
        self._stream = stream
        self._call = call
        self._prepare = prepare
        self._key = key
        self._side_by_side = asyncio.Semaphore(_SIDE_BY_SIDE)
        self._under_way = asyncio.Semaphore(_UNDER_WAY)
        self._read: asyncio.Queue[_Read | None] = asyncio.Queue(limits.stream_items + 1)
        self._grouped: asyncio.Queue[_Grouped[Response] | None] = asyncio.Queue(_UNDER_WAY + 1)
        self._due: asyncio.Queue[_Due[Response] | None] = asyncio.Queue(limits.stream_items + 1)

    async def run(self) -> None:
        """Answer all messages. Raises the RequestError of the first that cannot be answered."""
        with ended_by_one_error():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                tasks.create_task(self._compute(tasks))
                tasks.create_task(self._group(tasks))
                number = 0
                async for decoded in self._stream:
                    self._call.caller.quota.check_key()
                    await self.items.acquire(1)
                    size = await self.request_bytes.acquire(decoded.message.ByteSize())
                    await self._read.put(_Read(decoded, number, size, self._key(decoded, number)))
                    number += 1
                await self._read.put(None)

    async def _group(self, tasks: asyncio.TaskGroup) -> None:
        """Have what was read prepared, as soon as it may be, together with what is alike and was read right behind."""
        left: _Read | None = None
        while True:
            await self._under_way.acquire()
            await self._side_by_side.acquire()
            first = left or await self._read.get()
            if first is None:
                break
            group, left, ended = self._take(first)
            prepared = tasks.create_task(_or_error(partial(self._prepared, group)))
            prepared.add_done_callback(lambda _: self._side_by_side.release())
            await self._grouped.put(_Grouped(prepared, [each.size for each in group]))
            if ended:
                break
        await self._grouped.put(None)

    def _take(self, first: _Read) -> tuple[list[_Read], _Read | None, bool]:
        """Return a group, the message behind it where it was read already, and whether there are no more of them."""
        group, size = [first], first.size
        while not self._read.empty():
            following = self._read.get_nowait()
            if following is None:
                return group, None, True
            size += following.size
            if following.key != first.key or len(group) == _GROUP_ITEMS or size > _GROUP_BYTES:
                return group, following, False
            group.append(following)
        return group, None, False

    async def _prepared(self, group: Sequence[_Read]) -> Group[Response]:
        return await self._prepare([each.decoded for each in group], group[0].number)

    async def _compute(self, tasks: asyncio.TaskGroup) -> None:
        """Take the room for the messages of each group in turn, and begin to compute their answers."""
        while (grouped := await self._grouped.get()) is not None:
            group = await grouped.group
            if isinstance(group, RequestError):
                group = _failed(group)
            costs = np.minimum(group.costs, self.tokens.limit)
            for first, last in pieces_of(costs, max(1, self.tokens.limit // _GROUP_PART)):
                await self.tokens.acquire(int(costs[first:last].sum()))
                answers = tasks.create_task(_answered(group, first, last))
                if last == costs.size:
                    answers.add_done_callback(lambda _: self._under_way.release())
                await self._due.put(_Due(answers, costs[first:last].tolist(), grouped.sizes[first:last]))
            if group.error is not None:
                await self._due.put(_Due(tasks.create_task(_known(group.error)), (), ()))
                return
        await self._due.put(None)

    async def _write(self) -> None:
        while (due := await self._due.get()) is not None:
            answers = await due.answers
            for answer, tokens, size in zip(answers.good, due.tokens, due.sizes, strict=False):
                await self._stream.write(answer)
                self.items.release(1)
                self.tokens.release(tokens)
                self.request_bytes.release(size)
            if answers.error is not None:
                raise answers.error


async def _answered(group: Group[Response], first: int, last: int) -> GroupAnswers[Response]:
    with tracing.span("items") as span:
        span.set(items=last - first)
        try:
            return await group.answer(first, last)
        except RequestError as error:
            return GroupAnswers((), error)


async def _or_error(make: Callable[[], Awaitable[Made]]) -> Made | RequestError:
    """Return what is made, or its error, which is not raised before all answers before it are written.

    It is begun in here, as a task may be cancelled before it runs, and a coroutine that nobody awaits is a warning.
    """
    try:
        return await make()
    except RequestError as error:
        return error


def _failed(error: RequestError) -> Group[Any]:
    """Return a group whose first message has this error."""

    async def nothing(first: int, last: int) -> GroupAnswers[Any]:
        return GroupAnswers(())

    return Group(np.zeros(0, np.int64), nothing, error)


async def _known(error: RequestError) -> GroupAnswers[Any]:
    return GroupAnswers((), error)
