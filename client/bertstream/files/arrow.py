"""Arrow: its types for ours, columns as its arrays, and the errors that say how to get it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.files.errors import FileError, WrongUse
from bertstream.files.rows import NoRows
from bertstream.files.schema import Column, Field, ListOf, Struct, Type, Vector

INSTALL = "pip install 'bertstream[files]'"
_DTYPES = {"float": "float32", "halffloat": "float16", "int8": "int8"}  # of vectors, by Arrow's names
OTHER_WAYS = "write .jsonl, or leave the column out of `keep`"


def arrow(what: str) -> Any:
    """Return the module pyarrow. Raises WrongUse, which says what needs it, if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise WrongUse(f"{what} needs pyarrow: {INSTALL}") from None
    return pyarrow


def arrow_type(kind: Type) -> Any:
    """Return the type of Arrow for one of ours."""
    import pyarrow as pa

    match kind:
        case ListOf(Vector(0)):
            return pa.null()
        case ListOf(of):
            return pa.list_(arrow_type(of))
        case Struct(fields):
            return pa.struct([arrow_field(field) for field in fields])
        case Vector(0):
            return pa.null()
        case Vector(width, dtype, "binary"):
            return pa.binary(width * np.dtype(dtype).itemsize)
        case Vector(width, dtype):
            return pa.list_(_number(dtype), width)
        case _:
            return getattr(pa, kind)()


def arrow_field(field: Field) -> Any:
    """Return a field of a schema of Arrow."""
    import pyarrow as pa

    return pa.field(field.name, arrow_type(field.type))


def arrow_array(column: Column) -> Any:
    """Return a column as an array of Arrow.

    Lists of numbers have no nulls, since readers of Parquet before pyarrow 26 fail on lists of a fixed size that are
    null: a row without a vector has NaN.
    """
    import pyarrow as pa

    match column.field.type:
        case Vector() as kind:
            return _vectors(kind, np.ascontiguousarray(column.values), column.valid)
        case ListOf(Vector() as kind):
            return _lists_of_vectors(kind, list(column.values))
        case other:
            try:
                return pa.array(column.values, arrow_type(other))
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ValueError(f"column {column.name!r} would have values of different types: {error}") from None


def _lists_of_vectors(kind: Vector, rows: Sequence[NDArray[Any] | None]) -> Any:
    """Return lists of vectors [any, width] as an array of Arrow, with null for a row that has none."""
    import pyarrow as pa

    if kind.width == 0:
        return pa.nulls(len(rows))
    ends = np.cumsum([0, *(0 if row is None else len(row) for row in rows)])
    missing = pa.array([row is None for row in rows], pa.bool_())
    some = np.concatenate([np.empty((0, kind.width), kind.dtype), *(row for row in rows if row is not None)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), _vectors(kind, some), mask=missing)


def _vectors(kind: Vector, rows: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Any:
    """Return vectors [rows, width] as an array of Arrow."""
    import pyarrow as pa

    if kind.width == 0:
        return pa.nulls(len(rows))
    if kind.layout == "list":
        return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=arrow_type(kind))
    little = rows.astype(rows.dtype.newbyteorder("<"), copy=False)
    valid = np.ones(len(rows), np.bool_) if valid is None else valid
    values = [row.tobytes() if good else None for row, good in zip(little, valid, strict=True)]
    return pa.array(values, arrow_type(kind))


def kept_table(parts: Sequence[Any]) -> Any:
    """Return the columns that are carried, of consecutive rows in parts of one kind: record batches, or lists of dicts.

    Of no rows there may be one part with their names. Returns None if there are none. Raises FileError for a column
    whose values have no common type.
    """
    import pyarrow as pa

    some = [part for part in parts if part is not None]
    if not some:
        return None
    if isinstance(some[0], NoRows):
        return pa.table({name: pa.array([], pa.string()) for name in some[0].names})
    if not isinstance(some[0], list):
        return pa.Table.from_batches(some)
    records: list[dict[str, Any]] = [record for part in some for record in part]
    return pa.table({name: _column(name, records) for name in names_of(records)})


def names_of(records: Iterable[dict[str, Any]]) -> list[str]:
    """Return the names of all values of the records, in the order in which they are first seen."""
    return list(dict.fromkeys(name for record in records for name in record))


def common_schema(schemas: Sequence[Any]) -> Any:
    """Return a schema that has the columns of all of these. Raises FileError for types that have none in common."""
    import pyarrow as pa

    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise FileError(f"values of different types: {error}; {OTHER_WAYS}") from None


def as_schema(table: Any, schema: Any) -> Any:
    """Return a table with the columns of a schema. What the table lacks is null, and NaN in vectors.

    Raises FileError for values that cannot be of its types.
    """
    import pyarrow as pa

    if table.schema.equals(schema):
        return table
    try:
        return pa.table([_as_field(table, field) for field in schema], schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, NotImplementedError) as error:  # of objects, in older versions
        raise FileError(f"values of different types: {error}; {OTHER_WAYS}") from None


def plain_batch(batch: Any) -> Any:
    """Return a record batch with values in place of dictionaries, which may differ from batch to batch."""
    import pyarrow as pa

    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def is_string(kind: Any) -> bool:
    """Return whether a type of Arrow is one of its texts."""
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def values_of(array: Any) -> list[Any]:
    """Return the values of an array of Arrow. Bytes of texts that are not UTF-8 become lone surrogates."""
    try:
        return list(array.to_pylist())
    except UnicodeDecodeError:
        return list(map(_value, array))


def _value(scalar: Any) -> Any:
    """Return a value in which some text is not UTF-8."""
    import pyarrow as pa

    if not scalar.is_valid:
        return None
    if is_string(scalar.type):
        return scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
    if isinstance(scalar, pa.MapScalar):
        return [tuple(entry.values()) for entry in values_of(scalar.values)]
    if isinstance(scalar, pa.ListScalar):
        return values_of(scalar.values)
    return (
        {name: _value(each) for name, each in scalar.items()} if isinstance(scalar, pa.StructScalar) else scalar.as_py()
    )


def _as_field(table: Any, field: Any) -> Any:
    import pyarrow as pa

    if field.name in table.schema.names:
        column = table.column(field.name)
        if not pa.types.is_null(column.type):
            return column.cast(field.type)
    if not pa.types.is_fixed_size_list(field.type):
        return pa.nulls(table.num_rows, field.type)
    dtype = _DTYPES[str(field.type.value_type)]
    missing = 0 if dtype == "int8" else float("nan")
    values = np.full(table.num_rows * field.type.list_size, missing, dtype)
    return pa.FixedSizeListArray.from_arrays(pa.array(values), type=field.type)


def _column(name: str, records: Sequence[dict[str, Any]]) -> Any:
    import pyarrow as pa

    try:
        return _array([record.get(name) for record in records])
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise FileError(f"column {name!r} has values of different types: {error}; {OTHER_WAYS}") from None


def _array(values: list[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values)
    except UnicodeEncodeError:  # Arrow has no lone surrogates, as bytes that are no UTF-8 become
        return pa.array(list(map(_legible, values)))


def _legible(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _legible(each) for name, each in value.items()}
    return list(map(_legible, value)) if isinstance(value, list) else value


def _number(dtype: str) -> Any:
    import pyarrow as pa

    return pa.from_numpy_dtype(np.dtype(dtype))
