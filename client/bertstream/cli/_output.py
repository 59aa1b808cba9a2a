"""What goes to standard output and standard error, whatever the terminal's encoding is."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from typing import Any, TextIO


def write_any_text() -> None:
    """From now on nothing that is printed raises UnicodeEncodeError, and nothing of it is lost.

    A pipe or a file gets UTF-8, as what is read is UTF-8. A terminal gets its own encoding, and what that lacks as
    escapes, which unlike question marks still say what is there.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Prints a value as JSON, at once. A terminal that is not UTF-8 gets JSON's own escapes."""
    print(json.dumps(value, ensure_ascii=not _is_utf8(sys.stdout), indent=indent), flush=True)


def shows(text: str) -> bool:
    """Whether standard output has all these characters."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def has_colour() -> bool:
    """Whether standard output may be coloured."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def note(line: str) -> None:
    """Says on standard error what was done; standard output is for results."""
    print(line, file=sys.stderr, flush=True)


def _is_utf8(stream: TextIO) -> bool:
    return codecs.lookup(stream.encoding).name == "utf-8"
