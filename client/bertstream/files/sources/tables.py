"""Files of columns: Parquet and Arrow, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Any

from bertstream.files.arrow import arrow, is_string, plain_batch, values_of
from bertstream.files.errors import WrongUse
from bertstream.files.rows import Chunk, Wanted

CHUNK_ROWS, CHUNK_BYTES = 1024, 8 << 20
BUFFER_BYTES = 1 << 20
ARROW_MAGIC = b"ARROW1"

Told = Callable[[float], None]
"""Is told which share of a file has been read, from 0 to 1."""


def read_parquet(file: IO[bytes], wanted: Wanted, start: int, told: Told = lambda _: None) -> Iterator[Chunk]:
    """Yield the rows of a Parquet file from `start` on; row groups before it are not read."""
    pa = arrow("Parquet")
    opened = pa.parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
    schema, metadata = opened.schema_arrow, opened.metadata
    names = _checked(schema, wanted)
    all_groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    groups, skipped = _groups_from([group.num_rows for group in all_groups], start)
    rows = _rows_of_a_chunk(sum(group.total_byte_size for group in all_groups), metadata.num_rows)
    batches = opened.iter_batches(rows, row_groups=groups, columns=names, use_threads=False)
    for chunk in _chunks(batches, wanted, start, start - skipped, schema):
        told((chunk.first + len(chunk.values)) / max(1, metadata.num_rows))
        yield chunk


def read_arrow(file: IO[bytes], wanted: Wanted, start: int, told: Told = lambda _: None) -> Iterator[Chunk]:
    """Yield the rows of an Arrow file or stream from `start` on."""
    pa = arrow("Arrow's format")
    is_file = file.peek(len(ARROW_MAGIC))[: len(ARROW_MAGIC)] == ARROW_MAGIC if hasattr(file, "peek") else _begins(file)
    opened = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
    count = opened.num_record_batches if is_file else 0
    batches = map(opened.get_batch, range(count)) if is_file else opened
    names = _checked(opened.schema, wanted)

    def selected() -> Iterator[Any]:
        for place, batch in enumerate(batches):
            for read, rows in _cut(batch.select(names)):
                told((place + read) / count if count else 0.0)
                yield rows

    yield from _chunks(selected(), wanted, start, 0, opened.schema)


def _begins(file: IO[bytes]) -> bool:
    found = file.read(len(ARROW_MAGIC)) == ARROW_MAGIC
    file.seek(0)
    return found


def _chunks(batches: Iterator[Any], wanted: Wanted, start: int, number: int, schema: Any) -> Iterator[Chunk]:
    """Yield the batches, the first of which begins at row `number`, without the rows before `start`."""
    kept = wanted.kept(schema.names)
    for batch in batches:
        rows = batch.slice(min(max(0, start - number), batch.num_rows))
        first, number = max(start, number), number + batch.num_rows
        if rows.num_rows:
            rows = plain_batch(rows)
            columns = [values_of(rows.column(name)) for name in wanted.columns]
            carried = rows.select(kept)
            size = carried.nbytes / rows.num_rows
            yield Chunk(first, list(zip(*columns, strict=True)), carried if kept else None, size)
    if number == 0 and kept:
        yield Chunk(0, [], plain_batch(_no_rows(schema, kept)))


def _no_rows(schema: Any, names: list[str]) -> Any:
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([], pa.schema([schema.field(name) for name in names]))


def _cut(batch: Any) -> Iterator[tuple[float, Any]]:
    """Yield the rows of a batch in pieces, each with the share of them that is read with it."""
    rows = _rows_of_a_chunk(batch.nbytes, batch.num_rows)
    for start in range(0, batch.num_rows, rows):
        yield min(1.0, (start + rows) / batch.num_rows), batch.slice(start, rows)


def _rows_of_a_chunk(size: int, rows: int) -> int:
    """Return how many rows go into a chunk of a table of that many bytes and rows."""
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES * rows // max(1, size)))


def _groups_from(rows: list[int], start: int) -> tuple[list[int], int]:
    """Return the row groups to read, and how many rows before `start` they have."""
    for group, count in enumerate(rows):
        if start < count:
            return list(range(group, len(rows))), start
        start -= count
    return [], 0


def _checked(schema: Any, wanted: Wanted) -> list[str]:
    names = wanted.names(schema.names)
    for name in wanted.columns:
        kind = schema.field(name).type
        if not _may_be_text(kind):
            raise WrongUse(f"column {name!r} is {kind}, not text (see `column`)")
    return names


def _may_be_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _may_be_text(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return is_string(kind.value_type) or bool(types.is_integer(kind.value_type))
    return is_string(kind) or bool(types.is_null(kind))
