"""Columns with the answers for several items, split by item. All functions raise Internal for inconsistent columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from bertstream.client._errors import unexpected_response


def check(column: Sequence[object], count: int, name: str) -> None:
    """Raise Internal if a column does not have `count` items."""
    if len(column) != count:
        raise unexpected_response(f"{len(column)} {name} where there are {count}")


def split(values: Any, counts: Iterable[int]) -> list[Any]:
    """Return concatenated values split into parts of these lengths."""
    ends = list(accumulate(counts, initial=0))
    if ends[-1] != len(values) or any(start > end for start, end in pairwise(ends)):
        raise unexpected_response(f"counts that add up to {ends[-1]} for {len(values)} values")
    return [values[start:end] for start, end in pairwise(ends)]


def joined(kind: Any, *columns: Any) -> list[Any]:
    """Return an object for each row of the columns."""
    if len({len(column) for column in columns}) > 1:
        raise unexpected_response(f"columns that differ in length: {[len(column) for column in columns]}")
    return [kind(*row) for row in zip(*columns, strict=True)]


def named(names: Sequence[str], numbers: Sequence[int]) -> list[str]:
    """Return the names with these numbers."""
    if any(not 0 <= number < len(names) for number in numbers):
        raise unexpected_response(f"a label beyond the {len(names)} there are")
    return [names[number] for number in numbers]
