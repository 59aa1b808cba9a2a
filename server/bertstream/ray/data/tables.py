"""A task over the rows of a table of Arrow, which gives the table more columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pyarrow as pa

from bertstream.files.arrow import arrow_array
from bertstream.files.rows import Failure
from bertstream.ray.data.tasks import Engine, RowTask, Values

OnError: TypeAlias = Literal["raise", "collect"]
ERROR = "error"  # the column that says why a row failed


class RowFailed(Exception):
    """A row has no answer, and the caller wanted to be told at once."""


@dataclass(frozen=True, slots=True)
class TableTask:
    """A task, and what becomes of rows that fail."""

    task: RowTask
    on_error: OnError = "raise"

    def extend(self, engine: Engine, table: pa.Table) -> pa.Table:
        """Return the table with the columns of the answers, and with `error` where failures are collected.

        Raises RowFailed where they are not, ValueError for a column that is missing or there twice, and as
        RowTask.finish does.
        """
        answered = self.task.finish(self.task.begin(engine, self._rows(table)))
        if answered.failures and self.on_error == "raise":
            row, failure = min(answered.failures.items())
            raise RowFailed(f"{_words(failure)}: row {row} of a block (on_error='collect' goes on)")
        columns = {column.name: arrow_array(column) for column in self.task.columns(engine, answered.answers)}
        if self.on_error == "collect":
            columns[ERROR] = _errors(table.num_rows, answered.failures)
        for name, array in columns.items():
            if name in table.column_names:
                raise ValueError(f"there is a column {name!r} already: rename or drop it")
            table = table.append_column(name, array)
        return table

    def _rows(self, table: pa.Table) -> list[Values]:
        names = self.task.inputs.columns
        for name in names:
            if name not in table.column_names:
                raise ValueError(f"there is no column {name!r}; there is {', '.join(table.column_names) or 'none'}")
        return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


def _errors(rows: int, failures: Mapping[int, Failure]) -> pa.Array:
    words = {row: _words(failure) for row, failure in failures.items()}
    return pa.array([words.get(row) for row in range(rows)], pa.string())


def _words(failure: Failure) -> str:
    return f"{failure.reason}: {failure.message}"
