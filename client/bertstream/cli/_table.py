"""Columns of text on a terminal, with characters of every width."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

_NO_WIDTH = {"Mn", "Me", "Cf"}


def width(text: str) -> int:
    """Return how many columns a text takes: 2 for East Asian wide characters and most emoji, 0 for combining marks."""
    return sum(map(_character_width, text))


def pad(text: str, columns: int, right: bool = False) -> str:
    """Return the text with spaces to fill the columns."""
    blanks = " " * (columns - width(text))
    return blanks + text if right else text + blanks


def printable(text: str) -> str:
    """Return the text with escapes for control characters and others that would affect the terminal."""
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Cf" else repr(c)[1:-1] for c in text)


def clipped(text: str, columns: int) -> str:
    """Return the text, cut with an ellipsis if it takes more than `columns`."""
    text = printable(text)
    used = cut_at = 0
    for end, character in enumerate(text, 1):
        used += _character_width(character)
        if used > columns:
            return text[:cut_at] + "…"
        if used < columns:
            cut_at = end
    return text


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Return a table whose columns are as wide as needed; those in `right` are aligned to the right."""
    lines = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = column_widths(lines)
    aligned_right = set(right)
    return "\n".join(
        "  ".join(pad(cell, widths[i], i in aligned_right) for i, cell in enumerate(line)).rstrip() for line in lines
    )


def fitted(lines: Sequence[Sequence[str]], columns: int) -> list[int]:
    """Return the widths of a table's columns, so that all take at most `columns`, with no gaps between them counted.

    Cells that are too long go on in the next line: between words, as long as that is enough, the widest first.
    """
    widths, least = column_widths(lines), word_widths(lines)
    while sum(widths) > columns and max(widths) > 1:
        loose = [place for place, wide in enumerate(widths) if wide > least[place]] or range(len(widths))
        widths[max(loose, key=lambda place: widths[place])] -= 1
    return widths


def column_widths(lines: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide each column is."""
    return [max(map(width, column)) for column in zip(*lines, strict=True)]


def word_widths(lines: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide the longest word of each column is."""
    return [max(width(word) for cell in column for word in cell.split() or [""]) for column in zip(*lines, strict=True)]


def _character_width(character: str) -> int:
    if unicodedata.category(character) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
