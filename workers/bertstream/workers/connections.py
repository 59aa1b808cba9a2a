"""The worker's end of its connections: one thread reads work into the queue, one writes answers out."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue

from bertstream.workers import ipc
from bertstream.workers.contract import Cancel, Failure, Hello, Result, Work
from bertstream.workers.queue import WorkQueue
from bertstream.workers.sessions import Sessions

log = logging.getLogger(__name__)

Reply = Result | Failure
_BUFFER_BYTES = 1 << 20


class Connection:
    """One frontend's. Its outbox is bounded by the work that the frontend has under way."""

    def __init__(self, sock: socket.socket, number: int, queue: WorkQueue, sessions: Sessions) -> None:
        self.number = number
        self._socket = sock
        self._queue = queue
        self._sessions = sessions
        self._outbox: SimpleQueue[Callable[[], Hello | Reply] | None] = SimpleQueue()

    def start(self, hello: Hello) -> None:
        """Greets, and begins to read and to write."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._outbox.put(lambda: hello)
        threading.Thread(target=self._read, name=f"reader-{self.number}", daemon=True).start()
        threading.Thread(target=self._write, name=f"writer-{self.number}", daemon=True).start()

    def reply(self, make: Callable[[], Reply]) -> None:
        """Has the writer make and send an answer, while the caller goes on."""
        self._outbox.put(make)

    def _read(self) -> None:
        try:
            while (message := ipc.receive(self._socket)) is not None:
                self._handle(message)
        except (OSError, ipc.ProtocolError) as error:
            log.warning("connection %d lost: %s", self.number, error)
        finally:
            self._queue.forget(self)
            self._sessions.forget_all(self)
            self._outbox.put(None)

    def _handle(self, message: ipc.Message) -> None:
        if isinstance(message, Cancel):
            self._queue.cancel(self, message.ids)
            self._sessions.forget(self, message.sessions)
        elif isinstance(message, Work):
            if message.session:
                self._sessions.begin(self, message.session)
            if not self._queue.add(message, self):
                failure = Failure(message.id, "queue_full", f"{self._queue.waiting_tokens} tokens wait already")
                self.reply(lambda: failure)
        else:
            raise ipc.ProtocolError(f"unexpected {type(message).__name__}")

    def _write(self) -> None:
        try:
            while (make := self._outbox.get()) is not None:
                ipc.send(self._socket, make())
        except OSError as error:
            log.warning("connection %d cannot be written to: %s", self.number, error)
        finally:
            with contextlib.suppress(OSError):  # wakes the reader, where it is this side that gives up
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()


class Listener:
    """Accepts frontends on a Unix socket that only this user may open."""

    def __init__(self, path: str, queue: WorkQueue, sessions: Sessions, hello: Callable[[int], Hello]) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101 - a socket's path, given as a string throughout
        self._socket.listen(64)
        self._queue = queue
        self._sessions = sessions
        self._hello = hello

    def start(self) -> None:
        threading.Thread(target=self._accept, name="listener", daemon=True).start()

    def _accept(self) -> None:
        number = 0
        while True:
            accepted, _ = self._socket.accept()
            number += 1
            Connection(accepted, number, self._queue, self._sessions).start(self._hello(number))
