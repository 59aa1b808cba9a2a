"""Parquet and Arrow files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import IO, Any

from bertstream.files.arrow import OTHER_WAYS, arrow, arrow_array, as_schema, common_schema, kept_table
from bertstream.files.errors import FileError
from bertstream.files.sinks.sink import Block, Part, check_names

GROUP_BYTES, GROUP_ROWS = 32 << 20, 1 << 17


class TableSink:
    """Writes the columns that are carried, then those of the task.

    A part is a stream of Arrow: it takes no time to write, and whatever Parquet needs at its end is written only once.
    Its types hold the rows of all parts before it too, so that values which have no type in common are told at once.
    """

    def __init__(self, what: str) -> None:
        self._arrow = arrow(what)
        self._known: Any = None  # the schema of the last part

    def go_on(self, part: Part) -> None:
        """Go on with the types of a part."""
        self._known = self._schema(part)

    def has_lists(self, name: str) -> bool | None:
        """Return whether a column has lists, by its type."""
        types = self._arrow.types
        if self._known is None or name not in self._known.names or types.is_null(self._known.field(name).type):
            return None
        return bool(types.is_list(self._known.field(name).type))

    def write_part(self, file: IO[bytes], block: Block) -> None:
        """Write some rows."""
        table = table_of(block)
        schema = common_schema([schema for schema in (self._known, table.schema) if schema is not None])
        if schema != self._known:
            self._check(schema)
            self._known = schema
        table = as_schema(table, self._known)
        with self._arrow.ipc.new_stream(file, self._known) as writer:
            writer.write_table(table)

    def join(self, file: IO[bytes], parts: Sequence[Part]) -> None:
        """Write all rows, with types that hold those of all parts."""
        schema = common_schema([self._schema(part) for part in parts] or [self._arrow.schema([])])
        self._write(file, schema, (as_schema(self._read(part), schema) for part in parts))

    def _check(self, schema: Any) -> None:
        """Raise FileError for types that the format does not have, before there are rows of them."""
        try:
            self._write(io.BytesIO(), schema, iter(()))
        except NotImplementedError as error:
            raise FileError(f"{error}; {OTHER_WAYS}") from None

    def _write(self, file: IO[bytes], schema: Any, tables: Iterator[Any]) -> None:
        raise NotImplementedError

    def _schema(self, part: Part) -> Any:
        with part() as opened, self._arrow.ipc.open_stream(opened) as reader:
            return reader.schema

    def _read(self, part: Part) -> Any:
        with part() as opened, self._arrow.ipc.open_stream(opened) as reader:
            return reader.read_all()


class ParquetSink(TableSink):
    """Writes Parquet, compressed with Zstandard, in row groups of some ten MB."""

    def __init__(self) -> None:
        super().__init__("Parquet")

    def _write(self, file: IO[bytes], schema: Any, tables: Iterator[Any]) -> None:
        # Vectors hardly repeat, so that a dictionary of them would be work for nothing.
        flat = [field.name for field in schema if not self._arrow.types.is_nested(field.type)]
        options = {"compression": "zstd", "use_dictionary": flat}
        with self._arrow.parquet.ParquetWriter(file, schema, **options) as writer:
            for group in self._groups(tables):
                writer.write_table(group, row_group_size=GROUP_ROWS)

    def _groups(self, tables: Iterator[Any]) -> Iterator[Any]:
        """Yield tables that are large enough for a row group each."""
        some: list[Any] = []
        for table in tables:
            some.append(table)
            if sum(each.nbytes for each in some) >= GROUP_BYTES or sum(map(len, some)) >= GROUP_ROWS:
                yield self._arrow.concat_tables(some)
                some = []
        if some:
            yield self._arrow.concat_tables(some)


class ArrowSink(TableSink):
    """Writes Arrow's file format, with a batch for each part."""

    def __init__(self) -> None:
        super().__init__("Arrow's format")

    def _write(self, file: IO[bytes], schema: Any, tables: Iterator[Any]) -> None:
        with self._arrow.ipc.new_file(file, schema) as writer:
            for table in tables:
                writer.write_table(table)


def table_of(block: Block) -> Any:
    """Return a block as a table of Arrow. Raises ValueError for a name that comes twice."""
    import pyarrow as pa

    kept = kept_table(block.kept)
    names, arrays = ([], list[Any]()) if kept is None else (kept.schema.names, list(kept.columns))
    check_names(block, names)
    fields = [] if kept is None else list(kept.schema)
    for column in block.columns:
        array = arrow_array(column)
        fields.append(pa.field(column.name, array.type))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))
