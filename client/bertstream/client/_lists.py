"""Lists as callers give them: Python's own, or arrays, tensors and columns of other libraries.

These are recognised by their methods, so that no library is imported: a tensor (NumPy, torch, JAX) has a shape and
`tolist`, a column (pandas, Polars, Arrow) has `to_list` or `to_pylist`, and a table has columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class HasToList(Protocol):
    """An array, a tensor or a column of another library."""

    def tolist(self) -> Any:
        """Return the values as a list."""


def check_list(values: object, what: str) -> None:
    """Raise TypeError, which names the type, for a value that cannot be meant as a list of texts."""
    name = type(values).__name__
    if isinstance(values, str):
        raise TypeError(f"{what} must be a list, not a str")
    if isinstance(values, bytes | bytearray | memoryview):
        raise TypeError(f"{what} must be a str or a list of texts, not {name}: decode it first")
    if hasattr(values, "columns") or hasattr(values, "column_names"):
        raise TypeError(f'{what} must be a list of texts, not {name}: give one of its columns, such as table["text"]')
    if isinstance(values, Mapping):
        key = "input_ids" if "input_ids" in values else next(iter(values), "text")
        raise TypeError(f"{what} must be a list of texts, not {name}: give a value of it, such as that of {key!r}")
    if isinstance(values, Set) and not _is_ordered(values):
        raise TypeError(f"{what} must be a list of texts, not {name}, which has no order: sort it first")
    if not hasattr(values, "__iter__") and not hasattr(values, "__getitem__") and not is_array(values):
        raise TypeError(f"{what} must be a list of texts, not {name}")
    shape = shape_of(values)
    if shape == ():
        raise TypeError(f"{what} must be a list of texts, not {name} without a dimension")
    if shape is not None and len(shape) > 1 and not _is_of_numbers(values):
        raise TypeError(
            f"{what} must be a list of texts, not {name} {list(shape)}: pairs are a list of tuples, such as "
            "list(map(tuple, rows))"
        )


def items_of(values: object, what: str) -> list[Any]:
    """Return the items of a list or column, or of an array: its rows, if it has two dimensions.

    Raises TypeError as `check_list` does.
    """
    check_list(values, what)
    if is_array(values):
        return list(as_array(values))
    plain: Iterable[Any] = plain_of(values)
    return list(plain)


def ids_alone(values: object) -> NDArray[Any] | None:
    """Return the token ids of one text, if that is what the value is: an array or tensor [n] of integers; else None."""
    if not is_array(values) or len(shape_of(values) or (0,)) != 1:
        return None
    array = as_array(values)
    return array if array.size and array.ndim == 1 and array.dtype.kind in "iu" else None


def plain_of(value: Any) -> Any:
    """Return a column, a scalar or NumPy's array of strings as Python's own values, and a tensor as NumPy's array."""
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind in "iufcb" else value.tolist()
    for method in ("as_py", "to_pylist", "to_list"):
        if hasattr(value, method):
            return getattr(value, method)()
    return as_array(value) if is_array(value) else value


def is_array(value: object) -> bool:
    """Return whether the value is an array or tensor, rather than a column."""
    if isinstance(value, np.ndarray):
        return True
    if hasattr(value, "to_list") or hasattr(value, "to_pylist") or isinstance(value, memoryview) or np.isscalar(value):
        return False
    return hasattr(value, "tolist") or hasattr(value, "__array__")


def as_array(value: Any) -> NDArray[Any]:
    """Return an array or tensor, which may be on any device, as NumPy's."""
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "tolist"):
        return np.asarray(value)
    array = np.asarray(value.tolist())
    if array.size or not _is_of_numbers(value):
        return array
    return np.empty(shape_of(value) or (0,), np.int64)  # NumPy would make an empty list one of floats


def shape_of(value: object) -> tuple[int, ...] | None:
    """Return the shape of an array, tensor or column, or None for a value without one."""
    shape = getattr(value, "shape", None)
    return tuple(map(int, shape)) if isinstance(shape, Collection) else None


def described(value: object) -> str:
    """Return the type of a wrong value, for an error's message, and what to do about it where that is known."""
    kind = type(value).__name__
    if value is None or kind in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return f"{kind}, a missing value: leave it out, or put an empty text in its place"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{kind}: decode it first"
    if isinstance(value, int | np.integer):
        return f"{kind}: the token ids of a text are a list of their own, [[101, 102]]"
    if isinstance(value, list | tuple):
        kinds = list(dict.fromkeys(type(each).__name__ for each in value))
        return f"{kind} of {' and '.join(kinds[:3])}{' and others' if len(kinds) > 3 else ''}" if kinds else kind
    return kind


def _is_ordered(values: object) -> bool:
    """Return whether a set has an order, as the keys of a dict have."""
    return hasattr(values, "__reversed__")


def _is_of_numbers(values: object) -> bool:
    dtype = str(getattr(values, "dtype", ""))
    return any(name in dtype for name in ("int", "float", "bool", "complex"))
