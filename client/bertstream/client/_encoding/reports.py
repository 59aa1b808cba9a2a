"""The options that tokenizing and encoding ran with, read from messages."""

from __future__ import annotations

from typing import Any

from bertstream.client._descriptions import pooling_of
from bertstream.client._enums import name_of
from bertstream.client._reports import EffectiveOptions
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types


def effective_options(message: encoding.EncodingOptions | tokenization.TokenizationOptions) -> EffectiveOptions:
    """Return the EffectiveOptions that a message reports."""
    if isinstance(message, encoding.EncodingOptions):
        specific = _encoding_fields(message)
    else:
        specific = _tokenization_fields(message)
    return EffectiveOptions(
        model=message.model,
        add_special_tokens=message.add_special_tokens if message.HasField("add_special_tokens") else None,
        truncation=name_of(types.TruncationStrategy, message.truncation.strategy),
        truncation_side=name_of(types.TruncationSide, message.truncation.side),
        max_length=message.truncation.max_length,
        offset_unit=name_of(tokenization.OffsetUnit, message.offset_unit),
        **specific,
    )


def _encoding_fields(message: encoding.EncodingOptions) -> dict[str, Any]:
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


def _tokenization_fields(message: tokenization.TokenizationOptions) -> dict[str, Any]:
    columns = _columns(message.outputs)
    return {"overflow": message.overflowing_windows, "stride": message.stride, "columns": columns}


def _columns(outputs: Any) -> tuple[str, ...]:
    return tuple(name_of(tokenization.TokenizationOutput, output) for output in outputs)
