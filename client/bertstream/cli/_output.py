"""Printing to standard output and standard error, whatever the terminal's encoding is."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

LAST_STREAM = 2  # the number of standard error


class ClosedOutput(io.TextIOBase):
    """Stands for standard output where that is closed: it raises OSError only for a command that prints."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Raise OSError."""
        raise OSError(errno.EBADF, "standard output is closed")


def stand_in_for_closed_streams() -> None:
    """Have something in place of standard output and standard error where these are closed, which Python has as None.

    Their numbers are taken as well, so that no file or connection gets them, and what others print to them.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (opened := os.open(os.devnull, os.O_RDWR)) <= LAST_STREAM:
        pass
    os.close(opened)
    sys.stdout = sys.stdout or ClosedOutput()
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end


def write_any_text() -> None:
    """Set up both streams so that printing never raises UnicodeEncodeError, and loses no character.

    A pipe or a file gets UTF-8, as input is UTF-8 too. A terminal gets its own encoding, with escapes for characters
    that it lacks, since question marks would hide them.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Print a value as JSON, and flush. A terminal that is not UTF-8 gets JSON's own escapes."""
    print(json.dumps(value, ensure_ascii=not _is_utf8(sys.stdout), indent=indent), flush=True)


def shows(text: str) -> bool:
    """Return whether standard output can encode these characters."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def has_colour(stream: TextIO | None = None) -> bool:
    """Return whether a stream, by default standard output, may be coloured."""
    terminal = (sys.stdout if stream is None else stream).isatty()
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(text: str, colour: int, stream: TextIO | None = None) -> str:
    """Return the text in one of the terminal's colours, such as 31 for red, where the stream may be coloured."""
    return f"\x1b[{colour}m{text}\x1b[0m" if has_colour(stream) else text


def note(line: str) -> None:
    """Print a line on standard error, since standard output is for results."""
    print(line, file=sys.stderr, flush=True)


def _is_utf8(stream: TextIO) -> bool:
    return codecs.lookup(stream.encoding).name == "utf-8"
