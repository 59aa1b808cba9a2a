"""Options that the task heads share: keyword arguments to messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, TypeVar

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._common_options import set_truncation
from bertstream.client._enums import value_of
from bertstream.client._types import OffsetUnit, Priority, Truncation, TruncationSide
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types

O = TypeVar("O", bound=Any)  # noqa: E741 - an options message


class TaskOptions(TypedDict, total=False):
    """Keyword arguments of all task heads except `answer`.

    If one is left out or None, the default of the checkpoint or the server applies.
    """

    model: str
    """The model's name; empty for the default model."""
    max_length: int | None
    """The number of tokens, special ones included, to which longer texts are cut."""
    truncation: bool | Truncation | None
    """True or "longest_first" to cut long texts, False or "refuse" to fail on them, "only_first", "only_second"."""
    truncation_side: TruncationSide | None
    """The end that is cut off: right or left."""
    priority: Priority | None
    """interactive (the default, except for bulk streams) or bulk."""


class TaskCall(CallOptions, TaskOptions, total=False):
    """Keyword arguments of a task without options of its own, for type checkers."""


class TaskStream(StreamOptions, TaskOptions, total=False):
    """Keyword arguments of a stream of a task without options of its own, for type checkers."""


def with_common(
    options: O,
    *,
    model: str = "",
    max_length: int | None = None,
    truncation: bool | Truncation | None = None,
    truncation_side: TruncationSide | None = None,
    priority: Priority | None = None,
) -> O:
    """Add the options of TaskOptions to a message, and return it. Raises ValueError for unusable values."""
    options.model, options.priority = model, priority_of(priority)
    set_truncation(options.truncation, max_length, truncation, truncation_side)
    return options


def at_least_one(number: int | None, name: str) -> int:
    """Return the number, or 0 for None. Raises ValueError for one below 1."""
    if number is not None and number < 1:
        raise ValueError(f"{name} must be at least 1")
    return number or 0


def listed(values: Sequence[Any] | None, name: str, kinds: tuple[type, ...]) -> list[Any]:
    """Return the values as a list, which is empty for None. Raises TypeError if one is not of these types."""
    some = [] if values is None else list(values)
    if isinstance(values, str) or not all(isinstance(value, kinds) for value in some):
        raise TypeError(f"{name} must be a list of {' or '.join(kind.__name__ for kind in kinds)}, not {values!r}")
    return some


def offset_unit_of(name: OffsetUnit | None) -> tokenization.OffsetUnit.ValueType:
    """Return the unit's value in messages; with None the server chooses."""
    if name is None:
        return tokenization.OFFSET_UNIT_UNSPECIFIED
    return value_of(tokenization.OffsetUnit, name, "offset_unit")


def priority_of(name: Priority | None) -> types.Priority.ValueType:
    """Return the priority's value in messages; with None the server chooses."""
    return types.PRIORITY_UNSPECIFIED if name is None else value_of(types.Priority, name, "priority")
