"""A map of attention weights, drawn with characters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bertstream.cli._palette import terminal_colours
from bertstream.cli._table import clipped, pad, printable, width

SHADES, ASCII_SHADES = " ░▒▓█", " .:+#"
LABEL_COLUMNS, LABEL_LINES = 14, 8
LEAST_CELLS = 8

Weights = NDArray[np.floating]


def draw(weights: Weights, tokens: Sequence[str], columns: int, colour: bool, shades: str = SHADES) -> str:
    """Draw weights [n, n] with a label for each row and column, at most `columns` wide.

    If n is too large, a cell is the largest of a square of weights, labelled with the square's first token.
    """
    labels = [clipped(token, max(2, min(LABEL_COLUMNS, columns - LEAST_CELLS - 1))) for token in tokens]
    margin = max(map(width, labels), default=0) + 1
    cells = max(LEAST_CELLS, columns - margin)
    square = -(-len(tokens) // cells) or 1
    labels, largest = labels[::square], pooled(weights, square)
    cell = 2 if 2 * len(labels) <= cells else 1
    top = float(weights.max(initial=0.0))
    paint = _coloured if colour else partial(_shaded, shades)
    lines = [f"{'':{margin}}{line}".rstrip() for line in _column_labels(labels, cell)]
    for label, row in zip(labels, largest / (top or 1.0), strict=True):
        lines.append(f"{pad(label, margin)}{paint(row, cell)}")
    return "\n".join([*lines, _legend(top, square, paint)])


def pooled(weights: Weights, square: int) -> Weights:
    """Return the largest weight of each square: [n, n] -> [ceil(n / square), ceil(n / square)]."""
    starts = np.arange(0, len(weights), square)
    if square == 1 or not len(starts):
        return weights
    return np.asarray(np.maximum.reduceat(np.maximum.reduceat(weights, starts, axis=0), starts, axis=1))


def _column_labels(labels: Sequence[str], cell: int) -> list[str]:
    """Return the lines of the columns' labels, which run from top to bottom and end above the first row."""
    lines = min(LABEL_LINES, max(map(len, labels), default=0))
    stacked = [_stack(label, lines, cell) for label in labels]
    return ["".join(column[line] for column in stacked) for line in range(lines)]


def _stack(label: str, lines: int, cell: int) -> list[str]:
    characters = [character if 0 < width(character) <= cell else "·" for character in printable(label)]
    if len(characters) > lines:
        characters = [*characters[: lines - 1], "…"]
    return [pad(character, cell) for character in [""] * (lines - len(characters)) + characters]


def _shaded(shades: str, shares: Weights, cell: int) -> str:
    levels = np.rint(shares * (len(shades) - 1)).astype(int)
    return "".join(shades[level] * cell for level in levels).rstrip()


def _coloured(shares: Weights, cell: int) -> str:
    numbers = terminal_colours(shares).tolist()
    return "".join(f"\x1b[48;5;{number}m{' ' * cell}" for number in numbers) + "\x1b[0m"


def _legend(top: float, square: int, paint: object) -> str:
    ramp = paint(np.linspace(0, 1, 5), 2) if callable(paint) else ""
    size = f"\na cell is the largest of {square} × {square} weights" if square > 1 else ""
    return f"\n0.00 {ramp} {top:.2f}  how much the row's token attends to the column's{size}"
