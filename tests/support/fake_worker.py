"""Run a worker for the dispatcher's tests, with real frames over a real Unix socket, and answers made by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bertstream.workers import ipc
from bertstream.workers.contract import Cancel, Failure, Generate, Hello, Result, Work
from bertstream.workers.serving.running_record import RunningRecord

Answer = Callable[[Work], Result | Failure | None]
GenerateAnswer = Callable[[Generate], list[ipc.Message]]


def echo(work: Work) -> Result:
    """Answer with the first id of each text, so that the order shows."""
    starts = np.cumsum(work.batch.lengths) - work.batch.lengths
    return Result(work.id, {"pooled": work.batch.ids[starts].astype(np.float32).reshape(-1, 1)}, 0.1, 0.2)


class FakeWorker:
    """Serve until it is killed; it can be started again, as a worker that was replaced."""

    def __init__(self, path: Path, answer: Answer = echo, batch_tokens: int = 4096) -> None:
        self.path = path
        self.answer = answer
        self.batch_tokens = batch_tokens
        self.interactive_tokens = batch_tokens
        self.cache_tokens = 0  # how many tokens it can generate for
        self.generate: GenerateAnswer = lambda _: []
        self.works: list[Work] = []
        self.generations: list[Generate] = []
        self.cancelled: list[int] = []
        self.ended_sessions: list[int] = []
        self.came = asyncio.Condition()
        self.lives = 0
        self._record: RunningRecord
        self._server: asyncio.Server | None = None
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._running = self.path.with_suffix(f".running.{self.lives}")
        self.lives += 1
        self._connections = 0
        self._record = RunningRecord(self._running)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def kill(self, running: list[int] | None = None, connection: int = 1) -> None:
        """Die while computing the work of these ids, which one of its connections has sent."""
        if running:
            self._record.set((connection, work_id) for work_id in running)
        assert self._server is not None
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def close(self) -> None:
        if self._server is not None:
            await self.kill()
            await asyncio.sleep(0)

    async def wait_for(self, works: int) -> None:
        async with asyncio.timeout(20), self.came:
            await self.came.wait_for(lambda: len(self.works) >= works)

    async def send(self, message: ipc.Message) -> None:
        self.writers[-1].write(b"".join(ipc.encode(message)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self._connections += 1
        sizes = self.batch_tokens, self.interactive_tokens
        hello = Hello("worker-0", 1, self._connections, *sizes, str(self._running), self.cache_tokens)
        writer.write(b"".join(ipc.encode(hello)))
        try:
            while True:
                prelude = await reader.readexactly(ipc.PRELUDE.size)
                body = await reader.readexactly(ipc.frame_size(prelude))
                await self._handle(ipc.decode(prelude, bytearray(body)), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _handle(self, message: ipc.Message, writer: asyncio.StreamWriter) -> None:
        async with self.came:
            if isinstance(message, Work):
                self.works.append(message)
                if (answer := self.answer(message)) is not None:
                    writer.write(b"".join(ipc.encode(answer)))
            elif isinstance(message, Generate):
                self.generations.append(message)
                for each in self.generate(message):
                    writer.write(b"".join(ipc.encode(each)))
            elif isinstance(message, Cancel):
                self.cancelled += message.ids
                self.ended_sessions += message.sessions
            self.came.notify_all()
