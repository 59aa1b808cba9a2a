"""The part of an output that is being gathered: rows whose answers are there, and which are not written yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

from bertstream.files.operations import Operation
from bertstream.files.rows import Row
from bertstream.files.sinks.sink import Block
from bertstream.files.vectors import VectorFormat, of_width

# A part is written when it has as many rows or bytes, or when its first row is this old. So a kill costs seconds of
# work, and memory and the number of files stay small.
PART_ROWS, PART_BYTES, PART_SECONDS = 8192, 16 << 20, 10.0
OBJECT_BYTES = 64


class OpenPart:
    """Gathers rows that follow each other."""

    def __init__(self, time_of: Callable[[], float]) -> None:
        self.failed = 0
        """How many of the rows failed."""
        self._time_of, self._begun, self._bytes = time_of, 0.0, 0.0
        self._rows: list[Row] = []
        self.no_rows: Any = None
        """The columns to carry where the file has no rows."""

    @property
    def rows(self) -> int:
        """Return how many rows it has."""
        return len(self._rows)

    @property
    def is_full(self) -> bool:
        """Return whether it is to be written."""
        if self.rows >= PART_ROWS or self._bytes >= PART_BYTES:
            return True
        return self.rows > 0 and self._time_of() - self._begun >= PART_SECONDS

    def add(self, row: Row) -> None:
        """Add the row that follows the last one, with its answer."""
        if not self._rows:
            self._begun = self._time_of()
        self._bytes += size_of(row.answer) + row.chunk.row_bytes
        self.failed += row.failure is not None
        self._rows.append(row)

    def failures(self) -> list[dict[str, Any]]:
        """Return the rows that failed, as values for JSON."""
        return [
            {"row": row.number, "reason": failure.reason, "status": failure.status, "message": failure.message}
            for row in self._rows
            if (failure := row.failure) is not None
        ]

    def block(
        self, operation: Operation, options: Mapping[str, Any], stored: VectorFormat, vector_width: int = 0
    ) -> Block:
        """Return its rows as columns, and vectors of that width where no row has one."""
        columns = operation.columns([row.answer for row in self._rows], options, stored)
        columns = [of_width(column, vector_width) for column in columns]
        by_chunk = [list(rows) for _, rows in groupby(self._rows, key=lambda row: id(row.chunk))]
        kept = [rows[0].chunk.kept_rows(rows[0].index, rows[-1].index + 1) for rows in by_chunk]
        return Block(columns, kept or [self.no_rows])


def size_of(value: Any) -> int:
    """Return about how many bytes a value takes."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes) + OBJECT_BYTES
    if isinstance(value, str | bytes):
        return len(value) + OBJECT_BYTES
    if isinstance(value, list | tuple):
        return sum(map(size_of, value)) + OBJECT_BYTES
    if isinstance(value, dict):
        return sum(map(size_of, value.values())) + OBJECT_BYTES
    names = getattr(value, "__dataclass_fields__", ())
    return sum(size_of(getattr(value, name)) for name in names) + OBJECT_BYTES
