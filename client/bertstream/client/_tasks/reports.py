"""The options that a task head ran with, read from messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from bertstream.client._enums import name_in, name_of
from bertstream.client._reports import EffectiveOptions
from bertstream.v1 import types_pb2 as types


@dataclass(frozen=True, slots=True)
class EffectiveTaskOptions(EffectiveOptions):
    """The options that a task head ran with, with every default filled in, by the names of the keyword arguments.

    Options that the task does not have are empty, 0 or False.
    """

    top_k: int = 0
    """How many results were asked for; 0 for all."""
    targets: tuple[str | int, ...] = ()
    sequences: bool = False
    function: str = ""
    labels: tuple[str, ...] = ()
    template: str = ""
    multi_label: bool = False
    label: str = ""
    aggregation: str = ""
    ignored_labels: tuple[str, ...] = ()
    threshold: float = 0.0
    nested: bool = False
    windows: bool = False
    max_answer_tokens: int = 0
    allow_no_answer: bool = False
    allow_partial_words: bool = False


_FIELDS = {field.name for field in fields(EffectiveTaskOptions)}
_WITHOUT = {"add_special_tokens": None, "truncation": "", "truncation_side": "", "max_length": 0, "offset_unit": ""}


def effective_task_options(message: Any, renamed: Mapping[str, Any] = MappingProxyType({})) -> EffectiveTaskOptions:
    """Return the options of any task's message; `renamed` has those whose fields have other names in messages."""
    values = {**_WITHOUT, **_plain(message), **renamed}
    return EffectiveTaskOptions(**{name: value for name, value in values.items() if name in _FIELDS})


def _plain(message: Any) -> dict[str, Any]:
    """Return the fields of a message of options as Python's values, including those of its truncation."""
    values: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if isinstance(value, types.TruncationOptions):
            values |= _of_truncation(value)
        elif field.enum_type is not None:
            values[field.name] = name_in(field.enum_type, value)
        else:
            values[field.name] = value if isinstance(value, str | int | float) else tuple(value)
    return values


def _of_truncation(message: types.TruncationOptions) -> dict[str, Any]:
    strategy, side = name_of(types.TruncationStrategy, message.strategy), name_of(types.TruncationSide, message.side)
    return {"truncation": strategy, "truncation_side": side, "max_length": message.max_length}
