"""What the server says about a call beside its answer: options in effect, usage, timings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from bertstream.client._encoding.decode import pooling_of
from bertstream.client._enums import name_of
from bertstream.client._types import Pooling
from bertstream.client._usage import Timings, Usage, cost_of
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types


@dataclass(frozen=True, slots=True)
class EffectiveOptions:
    """The options that a call ran with, every default filled in, by the names of the keyword arguments. Empty, 0 or
    None where the call has no such option.
    """

    model: str
    """The name of the model, where none was given too."""
    add_special_tokens: bool | None
    """None where it was not given: yes, but for token ids."""
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
    """Those of hidden_states."""
    attention_layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    overflow: bool = False
    stride: int = 0
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What the server says about its answer to one message; a call may consist of several."""

    options: EffectiveOptions
    usage: Usage
    timings: Timings


ReportOption: TypeAlias = Callable[[Report], object] | None
"""A callable gets a Report for each answered message, in the thread that waits for the answer."""


def tell(report: ReportOption, answer: Any, made: Callable[[Any], EffectiveOptions] | None = None) -> None:
    """Reports a unary answer, where that is wanted; its options as they are `made`, else by effective_options."""
    if report is not None:
        report(Report((made or effective_options)(answer.options), *cost_of(answer)))


def effective_options(message: encoding.EncodingOptions | tokenization.TokenizationOptions) -> EffectiveOptions:
    """EffectiveOptions."""
    own = _of_encoding(message) if isinstance(message, encoding.EncodingOptions) else _of_tokenization(message)
    return EffectiveOptions(
        model=message.model,
        add_special_tokens=message.add_special_tokens if message.HasField("add_special_tokens") else None,
        truncation=name_of(types.TruncationStrategy, message.truncation.strategy),
        truncation_side=name_of(types.TruncationSide, message.truncation.side),
        max_length=message.truncation.max_length,
        offset_unit=name_of(tokenization.OffsetUnit, message.offset_unit),
        **own,
    )


def _of_encoding(message: encoding.EncodingOptions) -> dict[str, Any]:
    return {
        "outputs": tuple(name_of(encoding.EncodingOutput, output) for output in message.outputs),
        "pooling": pooling_of(message.pooling) if message.HasField("pooling") else None,
        "wire_type": name_of(types.DataType, message.data_type),
        "prompt": message.prompt,
        "priority": name_of(types.Priority, message.priority),
        "layers": tuple(message.hidden_state_layers),
        "attention_layers": tuple(message.attention_layers),
        "heads": tuple(message.attention_heads),
        "columns": _columns(message.token_outputs),
    }


def _of_tokenization(message: tokenization.TokenizationOptions) -> dict[str, Any]:
    columns = _columns(message.outputs)
    return {"overflow": message.overflowing_windows, "stride": message.stride, "columns": columns}


def _columns(outputs: Any) -> tuple[str, ...]:
    return tuple(name_of(tokenization.TokenizationOutput, output) for output in outputs)
