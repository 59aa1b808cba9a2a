"""The screen of `bertstream top`, drawn by rich, which is imported only when it is needed."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from bertstream.cli._top import figures
from bertstream.cli._top.admin_port import Numbers
from bertstream.cli._top.figures import Figures

if TYPE_CHECKING:
    from rich.console import RenderableType

STATES = {"ready": "green", "serving": "green", "starting": "yellow", "loading": "yellow"}  # all others are red
_STATE = 1  # the column of it
GAP, LEAST = 1, 8  # columns between two of a table, and of the first one


def picture(
    numbers: Numbers, width: int, history: Sequence[float] = (), note: str = "", bars: bool = True
) -> RenderableType:
    """Return what is shown, in this many columns: the server, its models, its processes, and what is called."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(figures.headline(numbers), style="bold", no_wrap=True, overflow="ellipsis")]
    lines += [Text(line, no_wrap=True, overflow="ellipsis") for line in figures.totals(numbers)]
    if bars and len(history) > 1:
        lines.append(Text(f"calls/s {figures.trend(history, width - 8)}", style="cyan", no_wrap=True, overflow="crop"))
    if note:
        lines.append(Text(note, style="bold red", no_wrap=True, overflow="ellipsis"))
    tables = (figures.models(numbers), figures.processes(numbers), figures.calls(numbers))
    shown = [part for each in tables if each.rows for part in (Text(""), _table(each, width))]
    return Group(*lines, *shown)


def _cells(shown: Figures) -> Iterator[tuple[str, ...]]:
    yield tuple(column.name for column in shown.columns)
    yield from shown.rows


def _table(shown: Figures, width: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    widths = [max(len(cell) for cell in cells) for cells in zip(*_cells(shown), strict=True)]
    # Where there is too little room, the first column is cut, which has the names.
    widths[0] = max(LEAST, min(widths[0], width - sum(widths[1:]) - GAP * (len(widths) - 1)))
    for column, wide in zip(shown.columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        table.add_column(column.name, justify=justify, no_wrap=True, overflow="ellipsis", width=wide)
    for row in shown.rows:
        cells = [Text(cell) for cell in row]
        if shown.columns[_STATE].name == "STATE":
            cells[_STATE].stylize(STATES.get(row[_STATE], "red"))
        table.add_row(*cells)
    return table


@contextmanager
def keys() -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits for some seconds, and returns whether a key to quit was pressed meanwhile.

    The terminal gives keys without Return, and does not show them; afterwards it is as before. Where standard input is
    no terminal, there are no keys.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        yield _no_keys
        return
    import termios
    import tty

    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file)
        yield lambda wait: bool(select.select([file], [], [], wait)[0]) and _quits(os.read(file, 64))
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _quits(pressed: bytes) -> bool:
    """Return whether these bytes mean to quit; a key such as an arrow begins with Escape, and does not."""
    return not pressed or pressed == b"\x1b" or any(key in pressed for key in b"qQ\x03\x04")


def _no_keys(wait: float) -> bool:
    select.select([], [], [], wait)
    return False
