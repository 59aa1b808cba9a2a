"""Pictures of maps and of tokens for notebooks and files, as SVG and HTML, without a library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CELL, GAP, HEADING = 16, 24, 22  # pixels
LABEL_CHARACTERS, CHARACTER = 16, 7.2
MOST_CELLS = 96  # a side; more are drawn as squares of several, each of which shows its largest number
POSITIVE, NEGATIVE, SPECIAL = "#1f6f8b", "#b4483a", "#8a8a8a"
_FONT = 'font-family="ui-monospace, monospace" font-size="12"'


class Drawn(NamedTuple):
    """A map to draw: numbers [n, m], labels of rows and columns, and a title."""

    values: NDArray[np.floating[Any]]
    rows: Sequence[str]
    columns: Sequence[str]
    title: str


def grid_svg(maps: Sequence[Drawn], across: int, title: str = "") -> str:
    """Return one picture of the maps, so many in a row."""
    drawn = [_map(each) for each in maps]
    width = max((each[1] for each in drawn), default=0) + GAP
    height = max((each[2] for each in drawn), default=0) + GAP
    across = max(1, min(across, len(drawn)))
    top = HEADING if title else 0
    parts = [f'<text x="0" y="15" font-weight="bold">{escape(title)}</text>'] if title else []
    for place, (body, *_) in enumerate(drawn):
        down, right = divmod(place, across)
        parts.append(f'<g transform="translate({right * width:g},{top + down * height:g})">{body}</g>')
    size = f'width="{across * width:g}" height="{top + -(-len(drawn) // across) * height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {_FONT}>{"".join(parts)}</svg>'


def tokens_html(
    tokens: Sequence[str], ids: Sequence[int], offsets: Sequence[Sequence[int]] = (), special: Sequence[bool] = ()
) -> str:
    """Return tokens as HTML, each in a box that tells its id and its place in the text."""
    boxes = []
    for place, number in enumerate(ids):
        token = tokens[place] if place < len(tokens) else str(number)
        where = f", {offsets[place][0]} to {offsets[place][1]}" if place < len(offsets) else ""
        colour = SPECIAL if place < len(special) and special[place] else POSITIVE
        style = f"border:1px solid {colour};border-radius:3px;padding:0 3px;margin:1px;white-space:pre;color:{colour}"
        hint = escape(f"{place}: id {number}{where}")
        boxes.append(f'<span style="{style};display:inline-block" title="{hint}">{escape(token)}</span>')
    return f'<div style="font-family:ui-monospace,monospace">{"".join(boxes)}</div>'


def table_html(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and what belongs to them as a table in HTML."""
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _map(drawn: Drawn) -> tuple[str, float, float]:
    """Return the elements of a map, its width and its height."""
    values = np.asarray(drawn.values, np.float32)
    square = max(1, -(-max(values.shape, default=0) // MOST_CELLS))
    rows, columns, values = drawn.rows[::square], drawn.columns[::square], _largest(values, square)
    left = CHARACTER * max(map(len, map(_short, rows)), default=0) + 6
    top = CHARACTER * max(map(len, map(_short, columns)), default=0) + 6 + HEADING
    note = f" (a square is the largest of {square} × {square})" if square > 1 else ""
    parts = [f'<text x="0" y="15">{escape(drawn.title + note)}</text>']
    for down, label in enumerate(rows):
        parts.append(f'<text x="{left - 5:g}" y="{top + down * CELL + 12:g}" text-anchor="end">{_label(label)}</text>')
    for right, label in enumerate(columns):
        place = f"{left + right * CELL + 12:g} {top - 5:g}"
        parts.append(f'<text transform="translate({place}) rotate(-90)">{_label(label)}</text>')
    parts.extend(_cells(values, rows, columns, left, top))
    width = max(left + len(columns) * CELL, CHARACTER * len(drawn.title + note))
    return "".join(parts), width, top + len(rows) * CELL


def _cells(values: NDArray[Any], rows: Sequence[str], columns: Sequence[str], left: float, top: float) -> Iterable[str]:
    greatest = float(np.abs(values).max(initial=0.0)) or 1.0
    for down, row in enumerate(values.tolist()):
        for right, value in enumerate(row):
            place = f'x="{left + right * CELL:g}" y="{top + down * CELL:g}" width="{CELL}" height="{CELL}"'
            colour = f'fill="{NEGATIVE if value < 0 else POSITIVE}" fill-opacity="{abs(value) / greatest:.3f}"'
            hint = escape(f"{rows[down]} → {columns[right]}: {value:.4f}")
            yield f"<rect {place} {colour}><title>{hint}</title></rect>"


def _largest(values: NDArray[Any], square: int) -> NDArray[Any]:
    if square == 1:
        return values
    starts = [np.arange(0, length, square) for length in values.shape]
    return np.asarray(np.maximum.reduceat(np.maximum.reduceat(values, starts[0], axis=0), starts[1], axis=1))


def _short(label: str) -> str:
    return label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 1] + "…"


def _label(label: str) -> str:
    return escape(_short(label))
