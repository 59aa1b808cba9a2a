"""The types of columns, without Arrow: what answers are made of, in whatever format they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Scalar: TypeAlias = Literal["string", "int32", "float32", "float64", "null"]
VectorType: TypeAlias = Literal["float32", "float16", "int8"]
VectorLayout: TypeAlias = Literal["list", "binary"]


@dataclass(frozen=True, slots=True)
class ListOf:
    """Describe a list of values of one type, of any length."""

    of: Type


@dataclass(frozen=True, slots=True)
class Struct:
    """Describe an object with these fields."""

    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Vector:
    """Describe a vector of `width` numbers; 0 where no row of it is known."""

    width: int
    dtype: VectorType = "float32"
    layout: VectorLayout = "list"


Type: TypeAlias = Scalar | ListOf | Struct | Vector


@dataclass(frozen=True, slots=True)
class Field:
    """Name a column, or a field of an object, and its type."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Hold the values of a column."""

    field: Field
    values: list[Any] | NDArray[Any]
    """[rows]: plain values that JSON has, with None where a row failed; an array [rows, width] for a Vector, and
    arrays [any, width] for lists of them."""
    valid: NDArray[np.bool_] | None = None
    """[rows]: which rows of a Vector have one; None for all. Rows without are NaN, or 0 in int8."""

    @property
    def name(self) -> str:
        """Return the name of the column."""
        return self.field.name
