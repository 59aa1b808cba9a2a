"""JSON Lines: an object for each row."""

from __future__ import annotations

import base64
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from bertstream.files.arrow import names_of, values_of
from bertstream.files.rows import NoRows
from bertstream.files.schema import Column, ListOf, Vector
from bertstream.files.sinks.sink import Block, Part, check_names

COPY_BYTES = 1 << 20
_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})


class JsonSink:
    """Writes the columns that are carried, then those of the task; null where a row failed."""

    def go_on(self, part: Part) -> None:
        """Do nothing: lines need not know each other."""

    def has_lists(self, name: str) -> bool | None:
        """Return None: each line has what it has."""

    def write_part(self, file: IO[bytes], block: Block) -> None:
        """Write some lines."""
        kept = list(_records(block))
        check_names(block, names_of(kept))
        columns = [(column.name, _values(column)) for column in block.columns]
        for row, record in enumerate(kept):
            line = {**record, **{name: values[row] for name, values in columns}}
            file.write(json_line(line))

    def join(self, file: IO[bytes], parts: Sequence[Part]) -> None:
        """Write one part after the other."""
        for part in parts:
            with part() as opened:
                shutil.copyfileobj(opened, file, COPY_BYTES)


def json_line(value: Any) -> bytes:
    """Return a value as a line of JSON, whatever a reader takes for the end of a line.

    JSON has no NaN and no infinite numbers, which become null.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=_plain)
    text = text.translate(_LINE_ENDS)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _records(block: Block) -> Iterator[dict[str, Any]]:
    """Yield the values that are carried, row by row."""
    some = [part for part in block.kept if part is not None and not isinstance(part, NoRows)]
    if not some:
        yield from ({} for _ in range(block.rows))
    for part in some:
        yield from part if isinstance(part, list) else _records_of(part)


def _records_of(batch: Any) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    columns = [_carried(name, batch.column(name)) for name in names]
    return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def _carried(name: str, column: Any) -> list[Any]:
    """Return the values of a column that is carried. Raises ValueError for those that Python lacks."""
    try:
        return values_of(column)
    except (ValueError, OverflowError) as error:
        advice = "write .parquet or .arrow, or leave the column out of `keep`"
        raise ValueError(f"column {name!r} has values that JSON cannot have: {error}; {advice}") from None


def _values(column: Column) -> list[Any]:
    kind = column.field.type
    if isinstance(kind, ListOf) and isinstance(kind.of, Vector):
        return [None if rows is None else [_numbers(row) for row in rows] for rows in column.values]
    if not isinstance(kind, Vector):
        return list(column.values)
    valid = np.ones(len(column.values), np.bool_) if column.valid is None else column.valid
    return [_numbers(row) if good else None for row, good in zip(column.values, valid, strict=True)]


def _numbers(row: Any) -> list[Any]:
    """Return numbers whose decimals are the shortest that are read back as the same float32 or float16."""
    return row.tolist() if row.dtype.kind == "i" else [float(str(value)) for value in row]


def _finite(value: Any) -> Any:
    """Return a value with None for each number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return list(map(_finite, value)) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    """Return a value that JSON lacks as text: bytes in base64, times in ISO 8601."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
