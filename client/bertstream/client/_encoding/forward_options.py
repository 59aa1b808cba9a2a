"""Options of `forward`, `forward_stream` and `stream_layers`: keyword arguments to messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from bertstream.client._encoding.options import encoding_options
from bertstream.client._enums import value_of
from bertstream.client._fields import numbers_of, values_of
from bertstream.client._types import Model, Numbers, OffsetUnit, Output, SpanUnit
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tokenization_pb2 as tokenization

OUTPUTS: tuple[Output, ...] = get_args(Output)
ONLY_EMBEDDINGS = "layers has none with attentions: the embeddings, layer 0, have none"
TOKEN_OUTPUTS = (tokenization.TOKENIZATION_OUTPUT_TOKENS, tokenization.TOKENIZATION_OUTPUT_OFFSETS)


def forward_options(
    outputs: Sequence[Output],
    *,
    layers: Numbers | None = None,
    attention_layers: Numbers | None = None,
    heads: Numbers | None = None,
    pooling_layers: Numbers | None = None,
    offset_unit: OffsetUnit | None = None,
    **given: Any,
) -> encoding.EncodingOptions:
    """Return the message for ForwardOptions without span_unit, which goes with the texts.

    Raises ValueError for unusable values.
    """
    _check(outputs, layers, attention_layers, heads)
    options = encoding_options(outputs, layers=numbers_of(pooling_layers, "pooling_layers") or None, **given)
    common = numbers_of(layers, "layers")
    if "hidden_states" in outputs:
        options.hidden_state_layers.extend(common)
    if "attentions" in outputs:
        own = numbers_of(attention_layers, "attention_layers")
        if attention_layers is None and layers is not None:
            own = _with_attentions(common)
        options.attention_layers.extend(own)
        options.attention_heads.extend(numbers_of(heads, "heads"))
    options.token_outputs.extend(TOKEN_OUTPUTS)
    if offset_unit is not None:
        options.offset_unit = value_of(tokenization.OffsetUnit, offset_unit, "offset_unit")
    return options


def outputs_of(outputs: Sequence[Output]) -> tuple[Output, ...]:
    """Return the outputs as a tuple. Raises ValueError for none and for a str, TypeError for what is no list."""
    some = [] if isinstance(outputs, str) else values_of(outputs, "outputs", f"some of {OUTPUTS}")
    if not some:
        raise ValueError(f"outputs must be some of {OUTPUTS}, not {outputs!r}")
    return tuple(some)


def span_unit_of(unit: SpanUnit | None, name: str = "span_unit") -> encoding.SpanUnit.ValueType:
    """Return the unit's number in messages. Raises ValueError for an unknown name."""
    return encoding.SPAN_UNIT_CHARACTERS if unit is None else value_of(encoding.SpanUnit, unit, name)


def leave_out_embeddings(options: encoding.EncodingOptions, model: Model) -> None:
    """Remove layer 0, if it is counted from the end, from the layers of attentions: the embeddings have none.

    Raises ValueError if it is the only one.
    """
    layers = [layer for layer in options.attention_layers if layer != -model.layers - 1]
    if options.attention_layers and not layers:  # an empty list would ask for every layer
        raise ValueError(ONLY_EMBEDDINGS)
    options.attention_layers[:] = layers


def _check(outputs: Sequence[Output], layers: object, attention_layers: object, heads: object) -> None:
    if layers is not None and "hidden_states" not in outputs and "attentions" not in outputs:
        raise ValueError("layers goes with hidden_states or attentions; the layers to pool are pooling_layers")
    for name, value in (("attention_layers", attention_layers), ("heads", heads)):
        if value is not None and "attentions" not in outputs:
            raise ValueError(f"{name} goes with attentions among the outputs")


def _with_attentions(layers: Sequence[int]) -> list[int]:
    """Return the layers without the embeddings. Raises ValueError where nothing is left."""
    numbers = [layer for layer in layers if layer != 0]
    if not numbers:  # an empty list would ask for every layer
        raise ValueError(ONLY_EMBEDDINGS)
    return numbers
