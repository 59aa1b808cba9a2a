"""SIGHUP, with and without a terminal, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

LIVES = """
import asyncio, signal
from bertstream.server.supervisor.hanging_up import HangUp
from bertstream.workers.process import logs

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    HangUp(None, None)
    print("ready", flush=True)
    await stop.wait()

logs.setup("supervisor")
asyncio.run(main())
print("drained")
"""
NOTHING = b"SIGHUP: without TLS and keys there is nothing to read again"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ends = pty.openpty()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def said(terminal: int, words: bytes) -> bool:
    """Tell whether the terminal shows these words within 30 seconds."""
    shown, end = b"", time.monotonic() + 30
    os.set_blocking(terminal, False)
    while words not in shown and time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            shown += os.read(terminal, 1000)
        time.sleep(0.02)
    return words in shown


def test_a_server_drains_when_its_terminal_is_gone_and_not_before(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    with subprocess.Popen([sys.executable, "-c", LIVES], stdout=subprocess.PIPE, stderr=theirs) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGHUP)
        assert said(ours, NOTHING)
        assert process.poll() is None
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.stdout.read() == b"drained\n"
        assert process.wait(30) == 0


def test_a_server_without_a_terminal_goes_on() -> None:
    with subprocess.Popen([sys.executable, "-c", LIVES], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            assert NOTHING in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"drained\n"
        assert process.wait(30) == 0
