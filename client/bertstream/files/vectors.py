"""Vectors as columns: float32, float16, or int8 with a scale for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.files.schema import Column, Field, ListOf, Vector, VectorLayout, VectorType

VECTOR, SCALE = "vector", "vector_scale"
VECTORS, SCALES = "vectors", "vector_scales"  # of each token
INT8_MOST = 127
VECTOR_TYPES: tuple[VectorType, ...] = ("float32", "float16", "int8")
VECTOR_LAYOUTS: tuple[VectorLayout, ...] = ("list", "binary")


@dataclass(frozen=True, slots=True)
class VectorFormat:
    """Say how vectors are stored. Raises ValueError for an unknown type or layout."""

    dtype: VectorType = "float32"
    layout: VectorLayout = "list"
    """list: as many numbers as the vector has; binary: the same as bytes, little-endian."""

    def __post_init__(self) -> None:
        if self.dtype not in VECTOR_TYPES:
            raise ValueError(f"vector_type must be one of {', '.join(VECTOR_TYPES)}, not {self.dtype!r}")
        if self.layout not in VECTOR_LAYOUTS:
            raise ValueError(f"vectors must be one of {', '.join(VECTOR_LAYOUTS)}, not {self.layout!r}")


def vector_columns(answers: Sequence[NDArray[Any] | None], stored: VectorFormat) -> list[Column]:
    """Return the column of the vectors, [rows, width], and that of their scales where they are int8.

    `answers` are vectors [width], or None for rows that failed, which become NaN. A vector is its int8 numbers times
    its scale.
    """
    rows, valid = stacked(answers)
    if stored.dtype == "int8":
        numbers, scales = quantized(rows)
        scales[~valid] = np.nan
        return [_column(numbers, valid, stored), Column(Field(SCALE, "float32"), _scalars(scales))]
    return [_column(rows.astype(stored.dtype, copy=False), valid, stored)]


def multi_vector_columns(answers: Sequence[NDArray[Any] | None], stored: VectorFormat) -> list[Column]:
    """Return the column of lists of vectors, one for each token, and that of their scales where they are int8.

    `answers` are arrays [tokens, width], or None for rows that failed, which are null.
    """
    width = next((answer.shape[1] for answer in answers if answer is not None), 0)
    field = Field(VECTORS, ListOf(Vector(width, stored.dtype, stored.layout)))
    if stored.dtype != "int8":
        return [Column(field, [None if each is None else each.astype(stored.dtype, copy=False) for each in answers])]
    made = [None if each is None else quantized(each) for each in answers]
    scales = [None if each is None else each[1].tolist() for each in made]
    numbers = [None if each is None else each[0] for each in made]
    return [Column(field, numbers), Column(Field(SCALES, ListOf("float32")), scales)]


def of_width(column: Column, width: int) -> Column:
    """Return a column of vectors that has this width, if none of its rows has told it; else the column itself.

    So outputs of no rows, or of rows that all failed, have the same types as all others.
    """
    match column.field.type:
        case Vector(0, dtype, layout):
            missing = 0 if dtype == "int8" else np.nan
            rows = np.full((len(column.values), width), missing, dtype)
            return Column(Field(column.name, Vector(width, dtype, layout)), rows, column.valid)
        case ListOf(Vector(0, dtype, layout)):
            return Column(Field(column.name, ListOf(Vector(width, dtype, layout))), column.values)
        case _:
            return column


def stacked(answers: Sequence[NDArray[Any] | None]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the vectors as rows [rows, width], NaN where there is none, and which rows there are."""
    valid = np.array([answer is not None for answer in answers], np.bool_)
    good = [answer for answer in answers if answer is not None]
    if not good:
        return np.full((len(answers), 0), np.nan, np.float32), valid
    if len(good) == len(answers):
        return np.stack(good), valid
    rows = np.full((len(answers), len(good[0])), np.nan, good[0].dtype)
    rows[valid] = np.stack(good)
    return rows, valid


def quantized(rows: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return rows [rows, width] as int8, and the scale of each row: its largest absolute number divided by 127.

    A row of zeros, and one that is not finite, has zeros and the scale 0.
    """
    wide = rows.astype(np.float32, copy=False)
    largest = np.abs(wide).max(axis=1, initial=0.0)
    scales = (np.where(np.isfinite(largest), largest, 0.0) / INT8_MOST).astype(np.float32)
    divisors = np.where(scales > 0, scales, np.inf)[:, None]
    finite = np.nan_to_num(wide, nan=0.0, posinf=0.0, neginf=0.0)
    return np.rint(finite / divisors).astype(np.int8), scales


def _column(rows: NDArray[Any], valid: NDArray[np.bool_], stored: VectorFormat) -> Column:
    field = Field(VECTOR, Vector(rows.shape[1], stored.dtype, stored.layout))
    return Column(field, rows, None if valid.all() else valid)


def _scalars(values: NDArray[Any]) -> list[Any]:
    return [None if np.isnan(value) else float(value) for value in values]
