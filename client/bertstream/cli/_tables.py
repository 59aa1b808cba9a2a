"""Tables: by rich on a terminal that has colours, where rich is installed, else as plain text."""

from __future__ import annotations

import importlib.util
import io
import shutil
from collections.abc import Iterable, Sequence
from typing import Literal

from bertstream.cli._output import has_colour
from bertstream.cli._table import fitted, printable, table, word_widths

GAP = 2


def shown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = (), spare: Sequence[int] = ()
) -> str:
    """Return a table for standard output; the columns in `right` are aligned to the right.

    On a terminal that is too narrow for all names in full, columns of `spare` are left out, the first of them first.
    """
    if has_colour() and importlib.util.find_spec("rich") is not None:
        return coloured_table(header, rows, right, shutil.get_terminal_size().columns, spare)
    return table(header, rows, right)


def coloured_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Iterable[int],
    columns: int,
    spare: Sequence[int] = (),
) -> str:
    """Return a table with colours, in which what is too long for so many columns goes on in the next line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [list(header), *([printable(cell) for cell in row] for row in rows)]
    places = _places(lines, columns, spare)
    lines, aligned_right = [[line[place] for place in places] for line in lines], set(right)
    widths = fitted(lines, columns - GAP * (len(places) - 1))
    shown = Table(box=None, header_style="bold cyan", row_styles=["", "dim"], pad_edge=False, padding=(0, GAP, 0, 0))
    for place, name, wide in zip(places, lines[0], widths, strict=True):
        side: Literal["left", "right"] = "right" if place in aligned_right else "left"
        shown.add_column(name, justify=side, overflow="fold", width=wide)
    for row in lines[1:]:
        shown.add_row(*map(Text, row))
    drawn = io.StringIO()
    Console(file=drawn, force_terminal=True, color_system="256", width=columns, highlight=False).print(shown)
    return drawn.getvalue().rstrip("\n")


def _places(lines: Sequence[Sequence[str]], columns: int, spare: Sequence[int]) -> list[int]:
    """Return the columns of a table to show: all but those of `spare` that have to go for the words of the others."""
    words, places = word_widths(lines), list(range(len(lines[0])))
    for place in spare:
        if sum(words[each] for each in places) + GAP * (len(places) - 1) <= columns:
            break
        places.remove(place)
    return places
