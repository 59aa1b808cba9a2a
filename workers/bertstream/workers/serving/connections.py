"""Serve the worker's end of its connections: one thread reads work into the queue, one writes answers out.

A single answer is written by the engine's own thread where it can be, as waking another one would take longer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

from bertstream.workers import ipc
from bertstream.workers.contract import Cancel, Completed, Failure, Generate, Generated, Hello, Result, Work
from bertstream.workers.engine.sessions import Sessions
from bertstream.workers.serving.measures import WorkMeasures
from bertstream.workers.serving.queue import WorkQueue
from bertstream.workers.trust.peers import peer_problem

log = logging.getLogger(__name__)

Reply = Result | Generated | Completed | Failure
_BUFFER_BYTES = 1 << 20


class GenerateQueue(Protocol):
    """Define the queue of generations, as connections use it."""

    def add(self, work: Generate, source: object) -> Failure | None:
        """Add a generation, or return why it cannot wait."""

    def cancel(self, source: object, work_ids: Iterable[int]) -> None:
        """Drop what was cancelled."""

    def forget(self, source: object) -> None:
        """Drop all that a lost connection sent."""


@dataclass(frozen=True, slots=True)
class Queues:
    """Route what connections send, and what they cancel."""

    work: WorkQueue
    sessions: Sessions
    generation: GenerateQueue | None = None  # None where the model does not generate
    measures: WorkMeasures = field(default_factory=WorkMeasures)

    def cancel(self, source: object, message: Cancel) -> None:
        self.work.cancel(source, message.ids)
        self.sessions.forget(source, message.sessions)
        if self.generation is not None:
            self.generation.cancel(source, message.ids)

    def forget(self, source: object) -> None:
        """Drop all that a lost connection sent."""
        self.work.forget(source)
        self.sessions.forget_all(source)
        if self.generation is not None:
            self.generation.forget(source)

    def add(self, message: Work | Generate, source: object) -> Failure | None:
        """Queue the message, or return why it cannot wait."""
        if isinstance(message, Generate):
            if self.generation is None:
                return Failure(message.id, "internal", "this model does not generate text")
            return self.generation.add(message, source)
        first = bool(message.session) and self.sessions.begin(source, message.session)
        failure = self.work.add(message, source, promised=bool(message.session) and not first)
        if failure is not None and first:
            self.sessions.forget(source, (message.session,))
        return failure


class Connection:
    """Serve one frontend.

    Its outbox is bounded by the work that the frontend has under way.
    """

    def __init__(self, sock: socket.socket, number: int, queues: Queues) -> None:
        self.number = number
        self._socket = sock
        self._queues = queues
        self._outbox: SimpleQueue[Callable[[], Hello | Reply | None] | None] = SimpleQueue()
        self._writing = threading.Lock()  # of the socket
        self._rest: list[memoryview] = []  # of a frame that was begun, to go first

    def start(self, hello: Hello) -> None:
        """Greet the frontend, and begin to read and to write."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._outbox.put(lambda: hello)
        threading.Thread(target=self._read, name=f"reader-{self.number}", daemon=True).start()
        threading.Thread(target=self._write, name=f"writer-{self.number}", daemon=True).start()

    def reply(self, make: Callable[[], Reply]) -> None:
        """Have the writer make and send an answer, while the caller goes on."""
        self._outbox.put(make)

    def reply_at_once(self, make: Callable[[], Result]) -> None:
        """Send an answer from this thread, without waiting; leave to the writer what the socket does not take.

        Answers to different work may overtake each other.
        """
        if not self._writing.acquire(blocking=False):
            self.reply(make)
            return
        try:
            if self._rest:
                self.reply(make)
            elif rest := ipc.send_some(self._socket, make()):
                self._rest = rest
                self._outbox.put(_nothing_more)
        except Exception:  # the writer is to notice, too, and to end the connection
            self.reply(make)
        finally:
            self._writing.release()

    def _read(self) -> None:
        try:
            while (message := ipc.receive(self._socket)) is not None:
                self._handle(message)
        except (OSError, ipc.ProtocolError) as error:
            log.warning("connection %d lost: %s", self.number, error)
        finally:
            self._queues.forget(self)
            self._outbox.put(None)

    def _handle(self, message: ipc.Message) -> None:
        if isinstance(message, Cancel):
            self._queues.cancel(self, message)
        elif isinstance(message, Work | Generate):
            failure = self._queues.add(message, self)
            if failure is not None:
                self.reply(lambda: failure)
        else:
            raise ipc.ProtocolError(f"unexpected {type(message).__name__}")

    def _write(self) -> None:
        try:
            while (make := self._outbox.get()) is not None:
                self._write_one(make())
        except OSError as error:
            log.warning("connection %d cannot be written to: %s", self.number, error)
        finally:
            with contextlib.suppress(OSError):  # wakes the reader, where it is this side that gives up
                self._socket.shutdown(socket.SHUT_RDWR)
            with self._writing:
                self._socket.close()

    def _write_one(self, message: Hello | Reply | None) -> None:
        """Write what is left of an answer that was sent at once, then this message."""
        if isinstance(message, Failure):
            self._queues.measures.failed(message.reason)
        with self._writing:
            ipc.send_rest(self._socket, self._rest)
            if message is not None:
                ipc.send(self._socket, message)


def _nothing_more() -> None:
    """Make no message, for the writer to send what is left of the one before."""


class Listener:
    """Accept frontends on a Unix socket that only this user may open, and no process of other users."""

    def __init__(self, path: str, queues: Queues, hello: Callable[[int], Hello]) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101 - a socket's path, given as a string throughout
        self._socket.listen(64)
        self._queues = queues
        self._hello = hello

    def start(self) -> None:
        threading.Thread(target=self._accept, name="listener", daemon=True).start()

    def _accept(self) -> None:
        number = 0
        while True:
            accepted, _ = self._socket.accept()
            if problem := peer_problem(accepted):
                log.error("a connection is refused: %s", problem)
                accepted.close()
                continue
            number += 1
            Connection(accepted, number, self._queues).start(self._hello(number))
