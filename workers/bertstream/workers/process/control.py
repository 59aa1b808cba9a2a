"""The line between the supervisor and a child: JSON objects, one a line, over a socket pair.

Either side may ask: an event with an "id" is a question, and gets an "answer" with the same id. The child learns from
the line's end that its supervisor is gone, however it went, and must not outlive it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

Event = dict[str, Any]


class ControlLine:
    """The child's end."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)  # the line ends with this process, whatever it starts
        self._socket = socket.socket(fileno=fd)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._asked: dict[int, Future[Event]] = {}

    def send(self, event: str, **fields: Any) -> None:
        """Tells the supervisor something; silently nothing if it is gone."""
        line = json.dumps({"event": event, **fields}).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(line)

    def ask(self, event: str, **fields: Any) -> Future[Event]:
        """Asks the supervisor something, which needs `listen`. Fails with ConnectionError where it is gone."""
        number, asked = next(self._numbers), Future[Event]()
        self._asked[number] = asked
        self.send(event, id=number, **fields)
        return asked

    def listen(self, answer: Callable[[Event], None], orphaned: Callable[[], None]) -> None:
        """Calls `answer` for each event, and `orphaned` when the supervisor is gone, in a thread of its own."""
        threading.Thread(target=self._listen, args=(answer, orphaned), name="control", daemon=True).start()

    def _listen(self, answer: Callable[[Event], None], orphaned: Callable[[], None]) -> None:
        with contextlib.suppress(OSError), self._socket, self._socket.makefile("rb") as lines:
            for line in lines:
                event = json.loads(line)
                if event["event"] == "answer":
                    self._answered(event)
                else:
                    answer(event)
        orphaned()
        for asked in list(self._asked.values()):
            with contextlib.suppress(InvalidStateError):
                asked.set_exception(ConnectionError("the supervisor is gone"))

    def _answered(self, event: Event) -> None:
        asked = self._asked.pop(event["id"], None)
        if asked is not None:
            with contextlib.suppress(InvalidStateError):  # whoever asked has given up
                asked.set_result(event)
