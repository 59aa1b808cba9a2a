"""Log what a child writes past its log: C++ libraries, warnings of others' loggers, an interpreter's last words.

Where the log is JSON, so is every line on standard error: the child's output reaches the supervisor by a pipe, and the
supervisor logs each line. A child's own log does not go this way, and so does not wait for the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bertstream.workers.process import logs

log = logging.getLogger(__name__)

_LINE_BYTES = 1 << 16  # of one line; longer ones are logged in parts
LINES = 200  # in SECONDS; gRPC's core, for one, writes a line for each call that makes no sense
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Output:
    """Say where a new child's output goes."""

    fd: int  # the child's standard output and error
    inherited: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    pipe: int | None = None  # from which the child's output is read


@contextlib.contextmanager
def output() -> Iterator[Output]:
    """Open the output for starting a child, and close our ends afterwards.

    Standard output is the supervisor's alone.
    """
    with contextlib.ExitStack() as opened:
        log_fd = os.dup(2)
        opened.callback(os.close, log_fd)
        if not logs.structured():
            yield Output(log_fd)
            return
        pipe, fd = os.pipe()
        opened.callback(os.close, fd)
        try:
            yield Output(fd, (log_fd,), {logs.LOG_FD: str(log_fd)}, pipe)
        except BaseException:
            os.close(pipe)
            raise


async def log_lines(pipe: int, name: str) -> None:
    """Log the lines that the child `name` writes until the pipe's last end is closed; of a flood, its first lines."""
    reader = asyncio.StreamReader(_LINE_BYTES)
    loop = asyncio.get_running_loop()
    file = os.fdopen(pipe, "rb", 0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    begun, lines = time.monotonic(), 0
    try:
        while line := await _line(reader):
            if time.monotonic() - begun > SECONDS:
                _tell_left_out(name, lines)
                begun, lines = time.monotonic(), 0
            if text := line.decode(errors="backslashreplace").rstrip():
                lines += 1
                if lines <= LINES:
                    log.warning("%s", text, extra={"child": name})
    finally:
        _tell_left_out(name, lines)
        transport.close()


def _tell_left_out(name: str, lines: int) -> None:
    if lines > LINES:
        log.warning("%d more lines were left out", lines - LINES, extra={"child": name})


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil()
    except asyncio.IncompleteReadError as error:  # the end
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await reader.readexactly(error.consumed)
