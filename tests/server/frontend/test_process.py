"""A frontend process, with a test in the place of its supervisor."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from bertstream.server.settings import FrontendSettings, Limits

LIMITS = Limits(1, 1 << 20, 1 << 20, 1 << 20, 1, 1, 1, 1)
SETTINGS = FrontendSettings("frontend-7", "127.0.0.1", 0, "0", (), LIMITS, 1, 1.0, 1.0, "info")


@contextmanager
def started() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket, TextIO]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "bertstream.server.frontend.process", "frontend-7", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        theirs.close()
        try:
            yield process, ours, ours.makefile("r")
        finally:
            process.kill()
            process.wait()


def test_it_asks_for_its_settings_and_ends_when_told() -> None:
    with started() as (process, line, events):
        asked: dict[str, Any] = json.loads(events.readline())
        assert asked["event"] == "settings"
        answer = {"event": "answer", "id": asked["id"], "settings": SETTINGS.to_values()}
        line.sendall(json.dumps(answer).encode() + b"\n")
        assert json.loads(events.readline()) == {"event": "ready"}
        line.sendall(b'{"event": "ping"}\n{"event": "stop"}\n')
        assert json.loads(events.readline()) == {"event": "pong"}
        assert process.wait(30) == 0


def test_it_ends_where_its_supervisor_goes_before_it_answers() -> None:
    with started() as (process, line, events):
        assert json.loads(events.readline())["event"] == "settings"
        line.shutdown(socket.SHUT_RDWR)
        assert process.wait(30) == 1
