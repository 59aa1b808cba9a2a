"""One frontend's connection to one worker: it reconnects for ever, and knows which work was lost with it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.dispatch.outlook import Wait
from bertstream.server.core.dispatch.under_way import UnderWay
from bertstream.workers import ipc
from bertstream.workers.contract import Cancel, Completed, Failure, Generate, Generated, Hello, Result, Work
from bertstream.workers.serving.running_record import read_running
from bertstream.workers.trust.peers import peer_problem

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.1  # between attempts to connect
_FIRST_BYTES = 8192  # of what is read before it is known how long a frame is: a vector or two


class WorkerLost(Exception):
    """The connection was lost while the worker had this work; `running` says whether it was computing it."""

    def __init__(self, running: bool) -> None:
        super().__init__("the worker was lost")
        self.running = running


@dataclass(frozen=True, slots=True)
class NewTokens:
    """The m new tokens of one generation, in the order in which they came."""

    sequences: NDArray[np.int32]  # [m]
    tokens: NDArray[np.int32]  # [m]
    scores: NDArray[np.float32]  # [m]


Sink = Callable[[NewTokens], bool]  # takes new tokens, and returns whether more are wanted
_Answer = Result | Completed | Failure | None


class WorkerLink:
    """Sends work to one worker and awaits the answers."""

    def __init__(self, path: str, on_change: Callable[[], None], under_way: UnderWay | None = None) -> None:
        """Connect to the worker's socket.

        on_change: called when the worker has come or is gone. under_way: counts the work that the worker has.
        """
        self.path = path
        self._under_way = under_way or UnderWay()
        self.hello: Hello | None = None
        self.cache_tokens = 0  # from the worker's last greeting
        self.tokens = 0  # under way
        self.wait = Wait()
        self.generation_wait = Wait()
        self._on_change = on_change
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[_Answer]] = {}
        self._sinks: dict[int, Sink] = {}
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()
        self._closing = False
        self._connecting = asyncio.create_task(self._connect_forever(), name=f"link-{path}")

    @property
    def alive(self) -> bool:
        """Whether a worker is connected and has greeted."""
        return self.hello is not None

    async def call(self, work: Work) -> Result | Failure:
        """Run one piece of work, whose id is set here; raise WorkerLost. Cancelling this cancels the work."""
        with self._under_way.counting(work):
            answer = await self._ask(work, int(work.batch.ids.size))
        assert isinstance(answer, Result | Failure)
        if isinstance(answer, Result):
            self.wait.say(answer.wait_seconds, answer.batch_seconds)
        else:
            self.wait.say_seconds(answer.wait_seconds)
        return answer

    async def generate(self, work: Generate, cost: int, sink: Sink | None = None) -> Completed | Failure | None:
        """Run one generation, of at most `cost` tokens, as `call` does; return None where the sink wanted no more.

        The sink gets the tokens of work that streams. It is called on the event loop, so it must be quick.
        """
        answer = await self._ask(work, cost, sink)
        assert not isinstance(answer, Result)
        if answer is not None:
            self.generation_wait.say(answer.wait_seconds)
        return answer

    async def _ask(self, work: Work | Generate, tokens: int, sink: Sink | None = None) -> _Answer:
        if self._transport is None or self.hello is None:
            raise WorkerLost(running=False)
        work = replace(work, id=next(self._ids))
        future = self._pending[work.id] = asyncio.get_running_loop().create_future()
        if sink is not None:
            self._sinks[work.id] = sink
        self.tokens += tokens
        try:
            self._transport.writelines(ipc.encode(work))
            answer: _Answer = await future
            return answer
        except asyncio.CancelledError:
            self._cancel(work.id)
            raise
        finally:
            self.tokens -= tokens
            self._pending.pop(work.id, None)
            self._sinks.pop(work.id, None)

    def forget_session(self, number: int) -> None:
        """Tell the worker that a session has no more steps."""
        if self._transport is not None:
            self._transport.writelines(ipc.encode(Cancel((), (number,))))

    async def close(self) -> None:
        """Drop the connection for good."""
        self._closing = True
        self._connecting.cancel()
        if self._transport is not None:
            self._transport.close()

    def _cancel(self, work_id: int) -> None:
        if self._transport is not None and work_id in self._pending:
            self._transport.writelines(ipc.encode(Cancel((work_id,))))

    async def _connect_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._closed.clear()
            with contextlib.suppress(OSError):  # not there yet, or being replaced
                await loop.create_unix_connection(lambda: _Frames(self), self.path)
                await self._closed.wait()
            await asyncio.sleep(RECONNECT_SECONDS)

    def connected(self, transport: asyncio.Transport) -> None:
        """Take a new connection, over which the worker is going to greet."""
        self._transport = transport

    def received(self, message: ipc.Message) -> None:
        """Take a message from the worker."""
        if isinstance(message, Hello):
            self.hello = message
            self.cache_tokens = message.cache_tokens
            self.wait.say(message.wait_seconds, message.batch_seconds)
            log.info("connected to %s", message.worker, extra={"pid": message.pid})
            self._on_change()
        elif isinstance(message, Generated):
            for work_id, tokens in split_by_work(message):
                self._pass_on(work_id, tokens)
        elif isinstance(message, Result | Completed | Failure):
            self._answer(message.id, message)

    def _pass_on(self, work_id: int, tokens: NewTokens) -> None:
        sink = self._sinks.get(work_id)
        if sink is not None and not sink(tokens):
            self._cancel(work_id)
            self._sinks.pop(work_id)
            self._answer(work_id, None)

    def _answer(self, work_id: int, answer: _Answer) -> None:
        future = self._pending.get(work_id)
        if future is not None and not future.done():
            future.set_result(answer)

    def lost(self) -> None:
        """Fail all work of a connection that is gone, and tell what was being computed from what only waited."""
        hello, self.hello, self._transport = self.hello, None, None
        running = read_running(Path(hello.running)) if hello else frozenset()
        number = hello.connection if hello else 0
        for work_id, future in self._pending.items():
            if not future.done():
                future.set_exception(WorkerLost(running=(number, work_id) in running))
        if hello and not self._closing:
            log.warning("lost %s", hello.worker, extra={"pid": hello.pid, "pending": len(self._pending)})
            self._on_change()
        self._closed.set()


def split_by_work(message: Generated) -> Iterator[tuple[int, NewTokens]]:
    """Yield the new tokens of each piece of work with its id, in the order in which they came."""
    order = np.argsort(message.works, kind="stable")
    works = message.works[order]
    columns = NewTokens(message.sequences[order], message.tokens[order], message.scores[order])
    firsts = np.flatnonzero(np.diff(works, prepend=works[:1] - 1)).tolist()
    for first, last in itertools.pairwise([*firsts, works.size]):
        part = slice(first, last)
        yield int(works[first]), NewTokens(columns.sequences[part], columns.tokens[part], columns.scores[part])


class _Frames(asyncio.BufferedProtocol):
    """Cuts the byte stream into frames.

    A frame that is short is read by one call of the system. The rest of a longer one is read straight into the buffer
    that its arrays view.
    """

    def __init__(self, link: WorkerLink) -> None:
        self._link = link
        self._first = bytearray(_FIRST_BYTES)
        self._prelude = b""
        self._body: bytearray | None = None  # of a frame of which the rest has not come yet
        self._filled = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are such by what they do, not by their class
        self._transport = transport
        if problem := peer_problem(transport.get_extra_info("socket")):
            log.error("a worker's socket belongs to another user: %s", problem)
            transport.abort()
            return
        self._link.connected(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._first if self._body is None else self._body)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        try:
            if self._body is None:
                self._take_frames()
            elif self._filled == len(self._body):
                body, self._body, self._filled = self._body, None, 0
                self._link.received(ipc.decode(self._prelude, body))
        except ipc.ProtocolError:
            log.exception("a worker sent something that is not a message")
            assert self._transport is not None
            self._transport.abort()

    def _take_frames(self) -> None:
        """Take all frames of what has come, the last of which may go on."""
        came, start, length = memoryview(self._first)[: self._filled], 0, ipc.PRELUDE.size
        while len(came) - start >= length:
            prelude = bytes(came[start : start + length])
            body = bytearray(ipc.frame_size(prelude))
            part = came[start + length : start + length + len(body)]
            body[: len(part)] = part
            start += length + len(part)
            if len(part) < len(body):
                self._prelude, self._body, self._filled = prelude, body, len(part)
                return
            self._link.received(ipc.decode(prelude, body))
        self._filled = len(came) - start
        self._first[: self._filled] = bytes(came[start:])

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lost()
