"""Serve streams whose messages have no ids: each is answered by one message, in the order in which they came.

The reader prepares one message after another, and goes on only while the window has room. What is prepared is computed
at once, and the writer sends the answers in turn. Room is taken in the order of the messages, so that none can wait for
room that is held by those behind it. A message that cannot be answered ends the stream, behind all answers before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from bertstream.server.core import tracing
from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.window import Window, ended_by_one_error
from bertstream.server.settings import Limits

Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Step(Generic[Response]):
    """Hold what is left to do for a message that has been prepared."""

    cost: int  # of the window, in tokens, until the answer is written
    answer: Callable[[], Awaitable[Response]]  # raises RequestError where there can be none


@dataclass(frozen=True, slots=True)
class _Due(Generic[Response]):
    """Hold an answer that is due, and the room that it takes until it is written."""

    answer: asyncio.Future[Response | RequestError]
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
        self._due: asyncio.Queue[_Due[Response] | None] = asyncio.Queue(limits.stream_items + 1)

    async def run(self) -> None:
        """Answer all messages. Raises the RequestError of the first that cannot be answered."""
        with ended_by_one_error():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                number = 0
                async for decoded in self._stream:
                    await self.items.acquire(1)
                    size = await self.request_bytes.acquire(decoded.message.ByteSize())
                    if not await self._begin(decoded, number, size, tasks):
                        break
                    number += 1
                await self._due.put(None)

    async def _begin(self, decoded: Decoded[Any], number: int, size: int, tasks: asyncio.TaskGroup) -> bool:
        """Prepare a message, and begin to compute its answer; return whether there can be one."""
        try:
            self._call.caller.quota.check_key()
            step = await self._prepare(decoded, number)
        except RequestError as error:
            failed = asyncio.get_running_loop().create_future()
            failed.set_result(error)
            await self._due.put(_Due(failed, 0, size))
            return False
        held = await self.tokens.acquire(step.cost)
        await self._due.put(_Due(tasks.create_task(_answered(step)), held, size))
        return True

    async def _write(self) -> None:
        while (due := await self._due.get()) is not None:
            answer = await due.answer
            if isinstance(answer, RequestError):
                raise answer
            await self._stream.write(answer)
            self.items.release(1)
            self.tokens.release(due.tokens)
            self.request_bytes.release(due.size)


async def _answered(step: Step[Response]) -> Response | RequestError:
    """Return the answer, or the error, which is not raised before all answers before it are written."""
    with tracing.span("items") as span:
        span.set(items=1)
        try:
            return await step.answer()
        except RequestError as error:
            return error
