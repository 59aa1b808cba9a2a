"""Run processes of another user at Unix sockets, for tests that root runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

STRANGER = 12345  # a user id
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others, or give files to them")

# Another user who has got past the modes of folder and socket: files are still opened as root.
_BECOME = """
import ctypes, os, socket, sys
os.seteuid(int(sys.argv[2]))
ctypes.CDLL(None).setfsuid(0)
sock = socket.socket(socket.AF_UNIX)
"""
_CONNECT = """
sock.connect(sys.argv[1])
print(os.getpid(), flush=True)
sys.stdin.read()
"""
_LISTEN = """
sock.bind(sys.argv[1])
sock.listen()
print(os.getpid(), flush=True)
accepted, _ = sock.accept()
accepted.sendall(bytes.fromhex(sys.argv[3]))
sys.stdin.read()
"""


@contextmanager
def connecting(path: str) -> Iterator[int]:
    """Run a process of another user that has connected to the socket; yield its process id."""
    yield from _stranger(_CONNECT, path)


@contextmanager
def listening(path: str, sent: bytes) -> Iterator[int]:
    """Run a process of another user that listens at the socket and sends this to who connects; yield its id."""
    yield from _stranger(_LISTEN, path, sent.hex())


def _stranger(code: str, path: str, *more: str) -> Iterator[int]:
    command = [sys.executable, "-S", "-c", _BECOME + code, path, str(STRANGER), *more]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        line = stranger.stdout.readline()
        assert line, "the other user's process failed"
        try:
            yield int(line)
        finally:
            stranger.kill()
