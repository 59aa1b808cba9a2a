"""The options that a task head ran with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from bertstream.client._enums import name_of
from bertstream.client._reports import EffectiveOptions
from bertstream.v1 import tasks_pb2 as tasks
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types


@dataclass(frozen=True, slots=True)
class EffectiveTaskOptions(EffectiveOptions):
    """The options that a task head ran with, every default filled in, by the names of the keyword arguments. Empty, 0
    or False where the task has no such option.
    """

    top_k: int = 0
    """0 for all."""
    targets: tuple[str | int, ...] = ()
    sequences: bool = False
    function: str = ""
    labels: tuple[str, ...] = ()
    template: str = ""
    multi_label: bool = False
    label: str = ""
    aggregation: str = ""
    ignored_labels: tuple[str, ...] = ()
    windows: bool = False
    max_answer_tokens: int = 0
    allow_no_answer: bool = False
    allow_partial_words: bool = False


_FIELDS = {field.name for field in fields(EffectiveTaskOptions)}


def effective_task_options(message: Any) -> EffectiveTaskOptions:
    """EffectiveTaskOptions, of any task's options."""
    values = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    values |= _of_truncation(values.get("truncation")) | _named(values)
    if "targets" in values:
        values["targets"] = (*message.targets, *message.target_ids)
        values["sequences"] = not message.omit_sequences
    values["template"] = values.get("hypothesis_template", "")
    known = {name: value for name, value in values.items() if name in _FIELDS}
    for name in ("labels", "ignored_labels"):
        known[name] = tuple(values.get(name, ()))
    return EffectiveTaskOptions(**{"add_special_tokens": None, "max_length": 0, **known})


def _of_truncation(message: types.TruncationOptions | None) -> dict[str, Any]:
    if message is None:
        return {"truncation": "", "truncation_side": ""}
    strategy, side = name_of(types.TruncationStrategy, message.strategy), name_of(types.TruncationSide, message.side)
    return {"truncation": strategy, "truncation_side": side, "max_length": message.max_length}


def _named(values: dict[str, Any]) -> dict[str, str]:
    """Those that are enums, by name."""
    unit = values.get("offset_unit")
    named = {"priority": name_of(types.Priority, values["priority"])}
    named["offset_unit"] = "" if unit is None else name_of(tokenization.OffsetUnit, unit)
    if "function" in values:
        named["function"] = name_of(tasks.ScoreFunction, values["function"])
    if "aggregation" in values:
        named["aggregation"] = name_of(tasks.AggregationStrategy, values["aggregation"])
    return named
