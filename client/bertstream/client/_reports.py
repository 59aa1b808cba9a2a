"""What the server reports about a call besides its answer: options in effect, usage, timings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from bertstream.client._types import Pooling
from bertstream.client._usage import Timings, Usage, cost_of


@dataclass(frozen=True, slots=True)
class EffectiveOptions:
    """The options that a call ran with, with every default filled in, by the names of the keyword arguments.

    Options that the call does not have are empty, 0 or None.
    """

    model: str
    """The name of the model, also if the call did not name one."""
    add_special_tokens: bool | None
    """None if it was not given: special tokens are then added, except to token ids."""
    truncation: str
    truncation_side: str
    max_length: int
    offset_unit: str
    outputs: tuple[str, ...] = ()
    pooling: Pooling | None = None
    """The mode, the layers counted from 0, whether vectors are normalised, and the dimensions (0: all)."""
    wire_type: str = ""
    prompt: str = ""
    """The text that was put before every text."""
    priority: str = ""
    layers: tuple[int, ...] = ()
    """The layers of hidden_states."""
    attention_layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    overflow: bool = False
    stride: int = 0
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What the server reports about its answer to one message; a call may consist of several."""

    options: EffectiveOptions
    usage: Usage
    timings: Timings


ReportOption: TypeAlias = Callable[[Report], object] | None
"""A function that is called with a Report for each answered message, in the thread that waits for the answer."""


def check_report(report: object) -> None:
    """Raise TypeError for a `report` that cannot be called, before anything is sent."""
    if report is not None and not callable(report):
        raise TypeError(f"report must be a function or None, not {report!r}")


def report_answer(report: ReportOption, answer: Any, options_of: Callable[[Any], EffectiveOptions]) -> None:
    """Report a unary answer, if the caller asked for reports; `options_of` reads the options that it ran with."""
    if report is not None:
        report(Report(options_of(answer.options), *cost_of(answer)))
