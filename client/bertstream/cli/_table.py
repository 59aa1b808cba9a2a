"""Columns of text on a terminal, with characters of every width."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

_NO_WIDTH = {"Mn", "Me", "Cf"}


def width(text: str) -> int:
    """How many columns a text takes: 2 for wide East Asian characters and most emoji, 0 for combining marks."""
    return sum(map(_character_width, text))


def pad(text: str, columns: int, right: bool = False) -> str:
    """The text with blanks to fill so many columns."""
    blanks = " " * (columns - width(text))
    return blanks + text if right else text + blanks


def printable(text: str) -> str:
    """The text with control characters and the like as escapes, so that they do nothing to the terminal."""
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Cf" else repr(c)[1:-1] for c in text)


def clipped(text: str, columns: int) -> str:
    """The text cut, with an ellipsis, to at most so many columns."""
    text = printable(text)
    used = kept = 0
    for end, character in enumerate(text, 1):
        used += _character_width(character)
        if used > columns:
            return text[:kept] + "…"
        if used < columns:
            kept = end
    return text


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Rows under a header, each column as wide as it must be; those in `right` are aligned to the right."""
    lines = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    aligned_right = set(right)
    return "\n".join(
        "  ".join(pad(cell, widths[i], i in aligned_right) for i, cell in enumerate(line)).rstrip() for line in lines
    )


def _character_width(character: str) -> int:
    if unicodedata.category(character) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
