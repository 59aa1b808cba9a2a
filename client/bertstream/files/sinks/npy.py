"""NumPy's file of vectors, [rows, width]."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from bertstream.files.schema import Vector
from bertstream.files.sinks.sink import Block, Part

COPY_BYTES = 1 << 20


class ArraySink:
    """Writes vectors alone, a row for each row of the input; NaN where a row failed."""

    def go_on(self, part: Part) -> None:
        """Do nothing: all vectors of a run are of one width and type."""

    def has_lists(self, name: str) -> bool | None:
        """Return None: there are vectors alone."""

    def write_part(self, file: IO[bytes], block: Block) -> None:
        """Write some rows. Raises ValueError for anything but one column of vectors."""
        (column, *others), kept = block.columns, [part for part in block.kept if part is not None]
        if others or kept or not isinstance(column.field.type, Vector):
            raise ValueError(".npy holds vectors alone, of floats: write .parquet, .arrow or .jsonl for all else")
        np.lib.format.write_array(file, np.ascontiguousarray(column.values))

    def join(self, file: IO[bytes], parts: Sequence[Part]) -> None:
        """Write a header, and the numbers of all parts."""
        shapes = [_header(part) for part in parts]
        width = max((shape[1] for shape, _ in shapes), default=0)
        dtype = next((dtype for shape, dtype in shapes if shape[1] == width), np.dtype(np.float32))
        header: dict[str, Any] = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        header["shape"] = (sum(shape[0] for shape, _ in shapes), width)
        np.lib.format.write_array_header_1_0(file, header)
        for part, (shape, _) in zip(parts, shapes, strict=True):
            if shape[1] != width:  # all of its rows failed, so that it did not know the width
                file.write(np.full((shape[0], width), np.nan, dtype).tobytes())
                continue
            with part() as opened:
                _read_header(opened)
                shutil.copyfileobj(opened, file, COPY_BYTES)


def _header(part: Part) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with part() as opened:
        return _read_header(opened)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype
