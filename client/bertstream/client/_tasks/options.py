"""Options that the task heads share: keyword arguments to messages."""

from __future__ import annotations

from typing import Any, TypedDict, TypeVar

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._common_options import set_truncation, set_windows
from bertstream.client._enums import value_of
from bertstream.client._fields import set_fields
from bertstream.client._types import LongTexts, OffsetUnit, Priority, Truncation, TruncationSide, WindowPooling
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


class WindowOptions(TypedDict, total=False):
    """Keyword arguments of the tasks that read long texts in windows."""

    long_texts: LongTexts | None
    """windows to read texts of more than `max_length` tokens in overlapping windows, whose scores are pooled; None or
    cut to leave out what is too long. Of pairs, `truncation` says which text: only_first or only_second."""
    stride: int | None
    """With windows, how many tokens two neighbours share; None for a quarter of a window."""
    window_pooling: WindowPooling | None
    """With windows, how their scores become one: mean, max, or weighted by their tokens; None for max to rerank, else
    for mean."""


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
    """Add the options of TaskOptions to a message, and return it.

    Raises ValueError or TypeError for unusable values.
    """
    options.priority = priority_of(priority)
    set_fields(options, model=model)
    set_truncation(options.truncation, max_length, truncation, truncation_side)
    return options


def with_windows(
    options: O,
    *,
    long_texts: LongTexts | None = None,
    stride: int | None = None,
    window_pooling: WindowPooling | None = None,
    **given: Any,
) -> O:
    """Add the options of WindowOptions and TaskOptions to a message, and return it. Raises as with_common."""
    set_windows(options, long_texts, stride, window_pooling)
    return with_common(options, **given)


def offset_unit_of(name: OffsetUnit | None) -> tokenization.OffsetUnit.ValueType:
    """Return the unit's value in messages; with None the server chooses."""
    if name is None:
        return tokenization.OFFSET_UNIT_UNSPECIFIED
    return value_of(tokenization.OffsetUnit, name, "offset_unit")


def priority_of(name: Priority | None) -> types.Priority.ValueType:
    """Return the priority's value in messages; with None the server chooses."""
    return types.PRIORITY_UNSPECIFIED if name is None else value_of(types.Priority, name, "priority")
