"""Labels with scores, as several tasks return them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from bertstream.client._enums import value_of
from bertstream.v1 import tasks_pb2 as tasks

ScoreFunction: TypeAlias = Literal["softmax", "sigmoid", "none"]


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a text."""

    label: str
    score: float
    label_id: int
    """Its number in the checkpoint; for `zero_shot` its index among the caller's labels."""


def function_of(name: ScoreFunction | None) -> tasks.ScoreFunction.ValueType:
    """Return the function's value in messages; with None the server chooses."""
    if name is None:
        return tasks.SCORE_FUNCTION_UNSPECIFIED
    return value_of(tasks.ScoreFunction, name, "function")
