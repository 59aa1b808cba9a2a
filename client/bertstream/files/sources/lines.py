"""Text files: a row a line (txt, jsonl), or a record (csv, tsv)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, Any, TypeVar

from bertstream.files.errors import WrongUse
from bertstream.files.rows import ALL, Chunk, Failure, NoRows, Wanted

CHUNK_ROWS, CHUNK_BYTES = 256, 4 << 20
FIELD_CHARACTERS = (1 << 31) - 1
TEXT = "text"

T = TypeVar("T")


def read_lines(file: IO[bytes], wanted: Wanted, start: int) -> Iterator[Chunk]:
    """Yield the lines from `start` on, each with one column, `text`. An empty line is an empty text.

    Raises WrongUse if other columns are wanted.
    """
    if len(wanted.columns) > 1:
        raise WrongUse("a file of lines has one column; give two in a file of another format, such as .tsv or .jsonl")
    if wanted.keep not in (ALL, (), (TEXT,)):
        raise WrongUse(f"a file of lines has one column, {TEXT!r}, and no {', '.join(wanted.keep)} (see `keep`)")
    lines = (_decoded(line).removesuffix("\n").removesuffix("\r") for line in file)
    for first, some, size in _chunks(lines, start, len):
        kept = [{TEXT: text} for text in some] if wanted.keep else None
        yield Chunk(first, [(text,) for text in some], kept, size if kept else 0.0)
        start = first + len(some)
    if start == 0 and wanted.keep:
        yield Chunk(0, [], NoRows((TEXT,)))


def read_jsonl(file: IO[bytes], wanted: Wanted, start: int) -> Iterator[Chunk]:
    """Yield the objects from `start` on; blank lines are not counted.

    A line that is no JSON object, or lacks a column, is a row that fails. Raises ValueError if the first one does.
    """
    lines = (line for line in file if line.strip())
    for first, some, size in _chunks(lines, start, len):
        records = list(map(_record, some))
        if first == 0:
            _check_first(records[0], wanted)
        values = [_values(record, wanted.columns) for record in records]
        kept = [_kept(record, wanted) for record in records] if wanted.keep else None
        yield Chunk(first, values, kept, size if kept else 0.0)


def read_csv(file: IO[bytes], wanted: Wanted, start: int, *, tabs: bool = False) -> Iterator[Chunk]:
    """Yield the records from `start` on, by the names in the first one. All values are text.

    With tabs, nothing is quoted. A record with more or fewer fields than the header is a row that fails.
    """
    csv.field_size_limit(FIELD_CHARACTERS)
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    options: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    try:
        records = csv.reader(text, **options)
        header = next(records, None)
        if header is None:  # an empty file
            return
        wanted.names(header)
        kept = wanted.kept(header)
        for first, some, size in _chunks((record for record in records if record), start, _record_size):
            rows = [_row(header, record) for record in some]
            values = [_values(row, wanted.columns) for row in rows]
            yield Chunk(first, values, [_only(row, kept) for row in rows] if kept else None, size if kept else 0.0)
            start = first + len(some)
        if start == 0 and kept:
            yield Chunk(0, [], NoRows(tuple(kept)))
    finally:
        text.detach()


def read_tsv(file: IO[bytes], wanted: Wanted, start: int) -> Iterator[Chunk]:
    """Yield the records of a file with tabs, as `read_csv` does."""
    return read_csv(file, wanted, start, tabs=True)


def _chunks(rows: Iterable[T], start: int, size_of: Callable[[T], int]) -> Iterator[tuple[int, list[T], float]]:
    """Yield the rows from `start` on in lists, each with the number of its first row and the mean size of a row."""
    some, size, first = list[T](), 0, start
    for row in islice(rows, start, None):
        some.append(row)
        size += size_of(row)
        if len(some) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield first, some, size / len(some)
            some, size, first = [], 0, first + len(some)
    if some:
        yield first, some, size / len(some)


def _record_size(record: Sequence[str]) -> int:
    return sum(map(len, record))


def _decoded(line: bytes) -> str:
    """Return a line as text. Bytes that are not UTF-8 become lone surrogates, which the SDK refuses, row by row."""
    return line.decode("utf-8", errors="surrogateescape")


def _record(line: bytes) -> dict[str, Any] | Failure:
    try:
        record = json.loads(line)
    except ValueError as error:  # UnicodeDecodeError is one
        return Failure("INVALID_JSON", f"the line is no JSON: {error}")
    except RecursionError:
        return Failure("INVALID_JSON", "the line's JSON is nested too deeply")
    if isinstance(record, dict):
        return record
    return Failure("INVALID_JSON", f"the line is no JSON object, but {type(record).__name__}")


def _check_first(record: dict[str, Any] | Failure, wanted: Wanted) -> None:
    if isinstance(record, Failure):
        raise ValueError(f"line 1: {record.message}")
    wanted.names(list(record))


def _row(header: Sequence[str], record: Sequence[str]) -> dict[str, Any] | Failure:
    if len(record) == len(header):
        return dict(zip(header, record, strict=True))
    return Failure("INVALID_RECORD", f"the record has {len(record)} fields where the header has {len(header)}")


def _values(record: dict[str, Any] | Failure, columns: Sequence[str]) -> tuple[Any, ...] | Failure:
    return record if isinstance(record, Failure) else tuple(record.get(name) for name in columns)


def _kept(record: dict[str, Any] | Failure, wanted: Wanted) -> dict[str, Any]:
    if isinstance(record, Failure):
        return {}
    return record if wanted.keep == ALL else _only(record, wanted.keep)


def _only(record: dict[str, Any] | Failure, names: Iterable[str]) -> dict[str, Any]:
    return {name: None if isinstance(record, Failure) else record.get(name) for name in names}
