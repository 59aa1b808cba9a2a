"""The line between the supervisor and a child: JSON objects, one a line, over a socket pair.

The child learns from the line's end that its supervisor is gone, however it went, and must not outlive it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]


class ControlLine:
    """The child's end."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)  # the line ends with this process, whatever it starts
        self._socket = socket.socket(fileno=fd)
        self._lock = threading.Lock()

    def send(self, event: str, **fields: Any) -> None:
        """Tells the supervisor something; silently nothing if it is gone."""
        line = json.dumps({"event": event, **fields}).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(line)

    def listen(self, answer: Callable[[Event], None], orphaned: Callable[[], None]) -> None:
        """Calls `answer` for each event, and `orphaned` when the supervisor is gone, in a thread of its own."""
        threading.Thread(target=self._listen, args=(answer, orphaned), name="control", daemon=True).start()

    def _listen(self, answer: Callable[[Event], None], orphaned: Callable[[], None]) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                answer(json.loads(line))
        orphaned()
