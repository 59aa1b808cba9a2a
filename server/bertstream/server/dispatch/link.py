"""One frontend's connection to one worker: reconnects for ever, and knows what was lost with it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bertstream.workers import ipc
from bertstream.workers.contract import Cancel, Failure, Hello, Result, Work
from bertstream.workers.running import read_running

log = logging.getLogger(__name__)

_RECONNECT_SECONDS = 0.1


class WorkerLost(Exception):
    """The connection went while the worker had this work; `running` says whether it was computing just this."""

    def __init__(self, running: bool) -> None:
        super().__init__("the worker was lost")
        self.running = running


class WorkerLink:
    """Sends work to one worker and awaits the answers."""

    def __init__(self, path: str, on_change: Callable[[], None]) -> None:
        self.path = path
        self.hello: Hello | None = None
        self.tokens = 0  # under way
        self._on_change = on_change
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Result | Failure]] = {}
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()
        self._closing = False
        self._connecting = asyncio.create_task(self._connect_forever(), name=f"link-{path}")

    @property
    def alive(self) -> bool:
        """Whether a worker is there and has greeted."""
        return self.hello is not None

    async def call(self, work: Work) -> Result | Failure:
        """Runs one piece of work; its id is set here. Raises WorkerLost. Cancelling it cancels the work."""
        if self._transport is None or self.hello is None:
            raise WorkerLost(running=False)
        work = replace(work, id=next(self._ids))
        future = self._pending[work.id] = asyncio.get_running_loop().create_future()
        tokens = int(work.batch.ids.size)
        self.tokens += tokens
        try:
            self._transport.writelines(ipc.encode(work))
            answer: Result | Failure = await future
            return answer
        except asyncio.CancelledError:
            self._cancel(work.id)
            raise
        finally:
            self.tokens -= tokens
            self._pending.pop(work.id, None)

    def forget_session(self, number: int) -> None:
        """Tells the worker that a session has no more steps."""
        if self._transport is not None:
            self._transport.writelines(ipc.encode(Cancel((), (number,))))

    async def close(self) -> None:
        """Drops the connection for good."""
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
            try:
                await loop.create_unix_connection(lambda: _Frames(self), self.path)
            except OSError:  # not there yet, or being replaced
                await asyncio.sleep(_RECONNECT_SECONDS)
            else:
                await self._closed.wait()

    def connected(self, transport: asyncio.Transport) -> None:
        """The connection is there; the worker will greet."""
        self._transport = transport

    def received(self, message: ipc.Message) -> None:
        """A message has come."""
        if isinstance(message, Hello):
            self.hello = message
            log.info("connected to %s", message.worker, extra={"pid": message.pid})
            self._on_change()
        elif isinstance(message, Result | Failure):
            future = self._pending.get(message.id)
            if future is not None and not future.done():
                future.set_result(message)

    def lost(self) -> None:
        """The connection is gone: all that was under way fails, and what was being computed is told apart."""
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


class _Frames(asyncio.BufferedProtocol):
    """Cuts the byte stream into frames; a frame's body is read straight into the buffer that its arrays will view."""

    def __init__(self, link: WorkerLink) -> None:
        self._link = link
        self._prelude = bytearray(ipc.PRELUDE.size)
        self._body: bytearray | None = None
        self._filled = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._link.connected(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._prelude if self._body is None else self._body)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        try:
            if self._body is None and self._filled == len(self._prelude):
                self._body, self._filled = bytearray(ipc.frame_size(self._prelude)), 0
            elif self._body is not None and self._filled == len(self._body):
                body, self._body, self._filled = self._body, None, 0
                self._link.received(ipc.decode(self._prelude, body))
        except ipc.ProtocolError:
            log.exception("a worker sent what is not a message")
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lost()
