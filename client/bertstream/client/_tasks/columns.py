"""Columns of answers for several items, in parts. All raise Internal where the columns make no sense."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from bertstream.client._errors import unexpected_response


def check(column: Sequence[object], count: int, name: str) -> None:
    """Raise Internal where a column is not that of so many items."""
    if len(column) != count:
        raise unexpected_response(f"{len(column)} {name} where there are {count}")


def split(values: Any, counts: Iterable[int]) -> list[Any]:
    """Return values that lie end to end in parts of these lengths."""
    ends = list(accumulate(counts, initial=0))
    if ends[-1] != len(values) or any(start > end for start, end in pairwise(ends)):
        raise unexpected_response(f"counts that add up to {ends[-1]} for {len(values)} values")
    return [values[start:end] for start, end in pairwise(ends)]


def joined(kind: Any, *columns: Any) -> list[Any]:
    """Return an object of each row of the columns."""
    if len({len(column) for column in columns}) > 1:
        raise unexpected_response(f"columns that differ in length: {[len(column) for column in columns]}")
    return [kind(*row) for row in zip(*columns, strict=True)]


def named(names: Sequence[str], numbers: Sequence[int]) -> list[str]:
    """Return the names at these places."""
    if any(not 0 <= number < len(names) for number in numbers):
        raise unexpected_response(f"a label beyond the {len(names)} there are")
    return [names[number] for number in numbers]
