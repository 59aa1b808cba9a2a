"""Serve streams whose messages have no ids: each is answered by one message, in the order in which they came.

The reader takes a message while the window has room, and has it prepared, a few side by side. In the order of the
messages each takes its room in tokens, so that none waits for room that is held by those behind it, and is computed;
the writer sends the answers in turn. A message that cannot be answered ends the stream, behind all answers before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from bertstream.server.core import tracing
from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.window import Window, ended_by_one_error
from bertstream.server.settings import Limits

Response = TypeVar("Response", bound=Message)
Made = TypeVar("Made")
_PREPARING = 8  # messages of one stream at once, as threads that tokenize are for all callers


@dataclass(frozen=True, slots=True)
class Step(Generic[Response]):
    """Hold what is left to do for a message that has been prepared."""

    cost: int  # of the window, in tokens, until the answer is written
    answer: Callable[[], Awaitable[Response]]  # raises RequestError where there can be none


@dataclass(frozen=True, slots=True)
class _Read(Generic[Response]):
    """Hold a message that was read, and is being prepared."""

    step: asyncio.Task[Step[Response] | RequestError]
    size: int  # its bytes


@dataclass(frozen=True, slots=True)
class _Due(Generic[Response]):
    """Hold an answer that is due, and the room that it takes until it is written."""

    answer: asyncio.Task[Response | RequestError]
    tokens: int
    size: int  # bytes of the request


class OrderedStream(Window, Generic[Response]):
    """Run one stream. `prepare` does the work for a message that comes before it is computed.

    It is told how many messages came before, and raises RequestError for a message that cannot be answered.
    """

    def __init__(
        self,
        stream: Stream[Any],
        call: Call,
        limits: Limits,
        prepare: Callable[[Decoded[Any], int], Awaitable[Step[Response]]],
    ) -> None:
        super().__init__(call, limits.stream_items, limits.stream_tokens)
        self._stream = stream
        self._call = call
        self._prepare = prepare
        self._read: asyncio.Queue[_Read[Response] | None] = asyncio.Queue(_PREPARING)
        self._due: asyncio.Queue[_Due[Response] | None] = asyncio.Queue(limits.stream_items + 1)

    async def run(self) -> None:
        """Answer all messages. Raises the RequestError of the first that cannot be answered."""
        with ended_by_one_error():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                tasks.create_task(self._compute(tasks))
                number = 0
                async for decoded in self._stream:
                    self._call.caller.quota.check_key()
                    await self.items.acquire(1)
                    size = await self.request_bytes.acquire(decoded.message.ByteSize())
                    step = tasks.create_task(_or_error(partial(self._prepare, decoded, number)))
                    await self._read.put(_Read(step, size))
                    number += 1
                await self._read.put(None)

    async def _compute(self, tasks: asyncio.TaskGroup) -> None:
        """Take the room for each message in turn, and begin to compute its answer."""
        while (read := await self._read.get()) is not None:
            step = await read.step
            if isinstance(step, RequestError):
                await self._due.put(_Due(tasks.create_task(_known(step)), 0, read.size))
                return
            held = await self.tokens.acquire(step.cost)
            await self._due.put(_Due(tasks.create_task(_or_error(partial(_answered, step))), held, read.size))
        await self._due.put(None)

    async def _write(self) -> None:
        while (due := await self._due.get()) is not None:
            answer = await due.answer
            if isinstance(answer, RequestError):
                raise answer
            await self._stream.write(answer)
            self.items.release(1)
            self.tokens.release(due.tokens)
            self.request_bytes.release(due.size)


async def _answered(step: Step[Response]) -> Response:
    with tracing.span("items") as span:
        span.set(items=1)
        return await step.answer()


async def _or_error(make: Callable[[], Awaitable[Made]]) -> Made | RequestError:
    """Return what is made, or its error, which is not raised before all answers before it are written.

    It is begun in here, as a task may be cancelled before it runs, and a coroutine that nobody awaits is a warning.
    """
    try:
        return await make()
    except RequestError as error:
        return error


async def _known(error: RequestError) -> RequestError:
    return error
