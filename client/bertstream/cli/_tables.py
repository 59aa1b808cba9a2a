"""Tables: by rich on a terminal that has colours, where rich is installed, else as plain text."""

from __future__ import annotations

import importlib.util
import io
import shutil
from collections.abc import Iterable, Sequence

from bertstream.cli._output import has_colour
from bertstream.cli._table import printable, table


def shown_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Return a table for standard output; the columns in `right` are aligned to the right."""
    if has_colour() and importlib.util.find_spec("rich") is not None:
        return coloured_table(header, rows, right, shutil.get_terminal_size().columns)
    return table(header, rows, right)


def coloured_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int], columns: int) -> str:
    """Return a table with colours, in which what is too long for so many columns goes on in the next line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    aligned_right = set(right)
    shown = Table(box=None, header_style="bold cyan", row_styles=["", "dim"], pad_edge=False, padding=(0, 2, 0, 0))
    for place, name in enumerate(header):
        shown.add_column(name, justify="right" if place in aligned_right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    drawn = io.StringIO()
    Console(file=drawn, force_terminal=True, color_system="256", width=columns, highlight=False).print(shown)
    return drawn.getvalue().rstrip("\n")
