"""Start a child process with a test in the place of its supervisor."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bertstream.workers.process.control import FromChild, ToChild, decode_from_child, encode

PATIENCE = 240.0  # seconds, for the child's next message


class Led:
    """Hold the process, and the supervisor's end of its line."""

    def __init__(self, module: str, name: str) -> None:
        self._line, theirs = socket.socketpair()
        self._line.settimeout(PATIENCE)
        self._lines = self._line.makefile("rb")
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, name, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )

    def tell(self, *messages: ToChild) -> None:
        self._line.sendall(b"".join(map(encode, messages)))

    def heard(self) -> FromChild:
        """Return its next message."""
        line = self._lines.readline()
        assert line, "the child is gone"
        return decode_from_child(line)

    def leave(self) -> None:
        """End the line, as a supervisor does that is killed."""
        self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._lines.close()
        self._line.close()


@contextmanager
def led(module: str, name: str) -> Iterator[Led]:
    """Start `python -m MODULE NAME FD`, and kill it in the end if it is still there."""
    made = Led(module, name)
    try:
        yield made
    finally:
        made.close()
