"""Texts from arguments or standard input."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from itertools import islice

from bertstream.cli._interrupt import check

CHUNK_TEXTS = 256


def argument_texts(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts given, or those of standard input's lines, some at a time."""
    source = lines() if reads_lines(texts) else iter(texts)
    while chunk := list(islice(source, CHUNK_TEXTS)):
        check()
        yield chunk


def reads_lines(texts: Sequence[str]) -> bool:
    """Whether the arguments say to read standard input."""
    return list(texts) == ["-"]


def whole_text() -> str:
    """All of standard input, as `lines` reads it."""
    return utf8_text(sys.stdin.buffer.read())


def utf8_text(data: bytes) -> str:
    """The text as it is, line ends too; what is not UTF-8 becomes lone surrogates, as in `lines`."""
    return data.decode("utf-8", errors="surrogateescape")


def lines() -> Iterator[str]:
    """The lines of standard input, as UTF-8 whatever the locale; an empty line is an empty text."""
    # Bytes that are not UTF-8 become lone surrogates, which the SDK refuses with the number of the text.
    wrapper = io.TextIOWrapper(sys.stdin.buffer, "utf-8", errors="surrogateescape", newline="\n")
    try:
        for line in wrapper:
            yield line.removesuffix("\n").removesuffix("\r")
    finally:
        wrapper.detach()
