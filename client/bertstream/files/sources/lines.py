"""Text files: a row a line (txt, jsonl), or a record (csv, tsv)."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, Any, TypeVar

from bertstream.files.errors import WrongUse
from bertstream.files.rows import ALL, Chunk, Failure, NoRows, Wanted

CHUNK_ROWS, CHUNK_BYTES = 256, 4 << 20
FIELD_CHARACTERS = 64 << 20
TEXT = "text"
# The fields of a record up to the first one that is quoted and not closed, or not followed by a comma or its end.
_WHOLE_FIELDS = re.compile(r'(?:(?:"[^"]*+(?:""[^"]*+)*+"|[^",\r\n][^,\r\n]*+)?(?:,|\r\n?|\n))*+')

T = TypeVar("T")


def read_lines(file: IO[bytes], wanted: Wanted, start: int) -> Iterator[Chunk]:
    """Yield the lines from `start` on, each with one column, `text`. An empty line is an empty text.

    Raises WrongUse if other columns are wanted by their names.
    """
    if len(wanted.columns) > 1:
        raise WrongUse("a file of lines has one column; give two in a file of another format, such as .tsv or .jsonl")
    _refuse_other_than_text(wanted.columns if wanted.named else (), "column")
    _refuse_other_than_text(() if wanted.keep == ALL else wanted.keep, "keep")
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


def read_csv(file: IO[bytes], wanted: Wanted, start: int) -> Iterator[Chunk]:
    """Yield the records from `start` on, by the names in the first one. All values are text.

    A record with more or fewer fields than the header is a row that fails. Raises ValueError for a quote that takes
    further lines for its field and is not closed as it should be, since these may be rows of their own.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _of_records(_records(text), wanted, start)
    finally:
        text.detach()


def read_tsv(file: IO[bytes], wanted: Wanted, start: int) -> Iterator[Chunk]:
    """Yield the records of a file with tabs, a line each, as `read_csv` does. Nothing is quoted."""
    lines = (line.removesuffix("\n").removesuffix("\r") for line in _lines_of_text(file))
    yield from _of_records((line.split("\t") for line in lines if line), wanted, start)


def _of_records(records: Iterator[list[str]], wanted: Wanted, start: int) -> Iterator[Chunk]:
    """Yield records as rows, by the names in the first one."""
    header = next(records, None)
    if header is None:  # an empty file
        return
    wanted.names(header)
    kept = wanted.kept(header)
    for first, some, size in _chunks(records, start, _record_size):
        rows = [_row(header, record) for record in some]
        values = [_values(row, wanted.columns) for row in rows]
        yield Chunk(first, values, [_only(row, kept) for row in rows] if kept else None, size if kept else 0.0)
        start = first + len(some)
    if start == 0 and kept:
        yield Chunk(0, [], NoRows(tuple(kept)))


class _Lines:
    """Provides the lines of a file to a reader of records, and holds those of the record that is being read."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text = iter(text)
        self.held: list[str] = []
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._text)
        except StopIteration:
            self.ended = True
            raise
        self.held.append(line)
        return line


def _records(text: Iterable[str]) -> Iterator[list[str]]:
    """Yield the records of CSV that have fields.

    A quote within a line is read as it is meant, as most readers do. One that takes further lines for its field must be
    closed, and followed by a comma or the end of the record. Raises ValueError, which names its line, if it is not.
    """
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_CHARACTERS))  # of the whole process
    lines, number = _Lines(text), 1
    reader = csv.reader(lines)
    while True:
        lines.held.clear()
        try:
            record = next(reader, None)
        except csv.Error as error:  # a field that is too large
            raise ValueError(f"line {_line_of_fault(lines.held, number)}: {error}; is a quote not closed?") from None
        if record is None:
            return
        if (len(lines.held) > 1 or lines.ended) and (wrong := _misquoted(lines.held)):
            line = _line_of_fault(lines.held, number)
            raise ValueError(f"line {line}: a quote that opens here is not closed as it should be: {wrong}")
        number += len(lines.held)
        if record:
            yield record


def _misquoted(record: Sequence[str]) -> str:
    """Return what is wrong with the quotes of a record, given as its lines; an empty string if nothing is."""
    try:
        list(csv.reader(record, strict=True))
    except csv.Error as error:
        return str(error)
    return ""


def _line_of_fault(record: Sequence[str], first: int) -> int:
    """Return the line in which the first field begins that is not whole; the record begins at line `first`."""
    whole = _WHOLE_FIELDS.match("".join(record))
    left = whole.end() if whole else 0
    for line, text in enumerate(record, first):
        if left < len(text):
            return line
        left -= len(text)
    return first


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


def _refuse_other_than_text(names: Sequence[str], option: str) -> None:
    """Raise ValueError for a column that a file of lines does not have."""
    if others := ", ".join(dict.fromkeys(name for name in names if name != TEXT)):
        raise ValueError(f"a file of lines has one column, {TEXT!r}, and no {others} (see `{option}`)")


def _record_size(record: Sequence[str]) -> int:
    return sum(map(len, record))


def _lines_of_text(file: IO[bytes]) -> Iterator[str]:
    """Yield the lines as text, without the mark that some programs put before UTF-8."""
    for number, line in enumerate(file):
        yield _decoded(line.removeprefix(codecs.BOM_UTF8) if number == 0 else line)


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
