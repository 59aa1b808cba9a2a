"""Options of tokenizing and encoding: keyword arguments to messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack, cast, get_args

from bertstream.client._common_options import refuse_unknown, set_prompt, set_truncation, set_windows
from bertstream.client._enums import value_of
from bertstream.client._fields import flag, numbers_of, optional_whole, set_fields, values_of
from bertstream.client._types import (
    LayerCombination,
    LongTexts,
    Model,
    Numbers,
    OffsetUnit,
    Output,
    PoolingMode,
    Priority,
    SpanUnit,
    TextKind,
    TokenColumn,
    Truncation,
    TruncationSide,
    WindowPooling,
    WireType,
)
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types


class TextOptions(TypedDict, total=False):
    """Keyword arguments of `encode_multi`, and of all methods that run the encoder.

    All may be left out or None: then the checkpoint's own default applies.
    """

    model: str
    """The model's name; empty for the default model."""
    kind: TextKind | None
    """What the texts are for, query or document, where the checkpoint treats these in different ways: by prompts of
    these names, lengths of their own, or an expansion of queries."""
    prompt: str | None
    """Text to put before every text (before the first of a pair); "" for none, even if the checkpoint has a default."""
    prompt_name: str | None
    """The prompt of that name in the checkpoint's sentence-transformers files."""
    wire_type: WireType | None
    """How numbers are sent: float32, float16 (you get float16), bfloat16 or int8 (you get float32)."""
    max_length: int | None
    """The number of tokens, special ones included, to which longer texts are cut."""
    truncation: bool | Truncation | None
    """True or "longest_first" to cut long texts, False or "refuse" to fail on them, "only_first", "only_second"."""
    truncation_side: TruncationSide | None
    """The end that is cut off: right or left."""
    add_special_tokens: bool | None
    """Whether to add special tokens such as [CLS] and [SEP]; None adds them to all but token ids."""
    priority: Priority | None
    """interactive (the default, except for bulk streams) or bulk."""


class VectorOptions(TextOptions, total=False):
    """Keyword arguments of all methods that pool states: those of TextOptions, and these."""

    pooling: PoolingMode | None
    """How token states become one vector: cls, mean, max, mean_sqrt_len, weighted_mean, last_token or pooler; None or
    checkpoint to follow the checkpoint's sentence-transformers files in all steps.
    """
    normalize: bool | None
    """Whether to divide each vector by its Euclidean norm."""
    layer_combination: LayerCombination | None
    """How several layers are combined before they are pooled: mean (the default), sum, or concatenate."""
    dimensions: int | None
    """How many of the first dimensions to keep, before normalising."""


class EncodeOptions(VectorOptions, total=False):
    """Keyword arguments of `encode`, `encode_spans` and `encode_stream`: those of VectorOptions, and these."""

    long_texts: LongTexts | None
    """windows to read texts of more than `max_length` tokens in overlapping windows, whose vectors are pooled; None or
    cut to leave out what is too long. Not for spans. Of pairs, `truncation` says which: only_first or only_second."""
    stride: int | None
    """With windows, how many tokens two neighbours share; None for a quarter of a window."""
    window_pooling: WindowPooling | None
    """With windows, how their vectors become one: mean (the default), max, or weighted by their tokens."""
    layers: Numbers | None
    """The layers to pool: 0 is the embeddings' output, k the k-th layer's, -1 the last one's (the default)."""


class ForwardOptions(VectorOptions, total=False):
    """Keyword arguments of `forward`, `forward_stream` and `stream_layers`: those of VectorOptions, and these.

    The server refuses layers and heads that are named twice.
    """

    layers: Numbers | None
    """The layers of hidden_states, and of attentions unless `attention_layers` is given: 0 is the embeddings' output
    (which has no attentions and is left out of them), k the k-th layer's, -1 the last one's. None for all. Layers above
    the highest that is asked for are not computed."""
    attention_layers: Numbers | None
    """The layers of attentions, if they differ from `layers`: 1 is the first layer, -1 the last."""
    heads: Numbers | None
    """The heads of attentions: 0 is the first, -1 the last. None for all."""
    pooling_layers: Numbers | None
    """The layers from which `pooled` and `pooled_spans` are made, as `layers` of `encode`; None for the last."""
    span_unit: SpanUnit | None
    """What the bounds of spans count: characters (the default), words or tokens."""
    offset_unit: OffsetUnit | None
    """What offsets count: code_points (the default, as Python strings do), utf16_units or utf8_bytes."""


class TokenizeOptions(TypedDict, total=False):
    """Keyword arguments of `tokenize` and `tokenize_stream`. All may be left out."""

    model: str
    """The model's name; empty for the default model."""
    add_special_tokens: bool | None
    """Whether to add special tokens such as [CLS] and [SEP]; None adds them to all but token ids."""
    max_length: int | None
    """The number of tokens, special ones included, to which longer texts are cut."""
    truncation: bool | Truncation | None
    """True or "longest_first" to cut long texts, False or "refuse" to fail on them, "only_first", "only_second"."""
    truncation_side: TruncationSide | None
    """The end that is cut off: right or left."""
    overflow: bool
    """Return what is cut off as further windows, so that a text may have several Tokens. For pairs this needs
    `only_first` or `only_second`."""
    stride: int | None
    """How many tokens (without special ones) two neighbouring windows share; any number, 0 too, implies `overflow`."""
    offset_unit: OffsetUnit | None
    """What offsets count: code_points (the default, as Python strings do), utf16_units or utf8_bytes."""
    columns: Sequence[TokenColumn] | None
    """The columns to return besides the ids: tokens, offsets, token_type_ids, special_tokens_mask, word_ids (with
    sequence_ids); None for all."""


def encoding_options(outputs: Sequence[Output] = (), **given: Unpack[EncodeOptions]) -> encoding.EncodingOptions:
    """Return the message for EncodeOptions. Raises ValueError or TypeError for unusable values."""
    refuse_unknown(given, EncodeOptions)
    options = encoding.EncodingOptions(pooling=_pooling_options(given))
    set_fields(options, model=given.get("model"), add_special_tokens=given.get("add_special_tokens"))
    options.outputs.extend(value_of(encoding.EncodingOutput, output, "outputs") for output in outputs)
    set_prompt(options, given.get("prompt"), given.get("prompt_name"))
    if (wire_type := given.get("wire_type")) is not None:
        options.data_type = value_of(types.DataType, wire_type, "wire_type", get_args(WireType))
    if (priority := given.get("priority")) is not None:
        options.priority = value_of(types.Priority, priority, "priority")
    if (kind := given.get("kind")) is not None:
        options.text_kind = value_of(types.TextKind, kind, "kind")
    cut = (given.get("max_length"), given.get("truncation"), given.get("truncation_side"))
    set_truncation(options.truncation, *cut)
    if str(given.get("window_pooling")) == "none":
        raise ValueError("window_pooling must not be 'none' here: encode_windows gives a vector for each window")
    set_windows(options, given.get("long_texts"), given.get("stride"), given.get("window_pooling"))
    return options


def tokenization_options(**given: Unpack[TokenizeOptions]) -> tokenization.TokenizationOptions:
    """Return the message for TokenizeOptions. Raises ValueError or TypeError for unusable values."""
    refuse_unknown(given, TokenizeOptions)
    stride, overflow = optional_whole(given.get("stride"), "stride", 0), cast(object, given.get("overflow"))
    columns = values_of(given.get("columns"), "columns", "a list of names")
    if given.get("columns") is not None and not columns:
        raise ValueError("columns is empty; leave it out for all of them")
    options = tokenization.TokenizationOptions()
    set_fields(options, model=given.get("model"), add_special_tokens=given.get("add_special_tokens"), stride=stride)
    options.overflowing_windows = stride is not None or (overflow is not None and flag(overflow, "overflow"))
    if (unit := given.get("offset_unit")) is not None:
        options.offset_unit = value_of(tokenization.OffsetUnit, unit, "offset_unit")
    options.outputs.extend(value_of(tokenization.TokenizationOutput, name, "columns") for name in columns)
    cut = (given.get("max_length"), given.get("truncation"), given.get("truncation_side"))
    set_truncation(options.truncation, *cut)
    return options


def pooled_width(pooling: encoding.PoolingOptions, model: Model | None) -> int:
    """Return the length of a pooled vector, or 0 if the model is not known."""
    if model is None:
        return 0
    is_default = pooling.mode in (encoding.POOLING_MODE_UNSPECIFIED, encoding.POOLING_MODE_CHECKPOINT)
    # The checkpoint's dimensions apply only to its own mode.
    dimensions = pooling.dimensions or (model.default_pooling.dimensions if is_default else 0)
    if is_default and model.default_pooling.mode == "checkpoint":
        return dimensions
    concatenated = pooling.layer_combination == encoding.LAYER_COMBINATION_CONCATENATE
    width = model.hidden_size * (max(1, len(pooling.layers)) if concatenated else 1)
    return min(width, dimensions) if dimensions > 0 else width


def _pooling_options(given: EncodeOptions) -> encoding.PoolingOptions | None:
    """Return the message for the options of pooling, or None if none of them is given."""
    names = ("pooling", "normalize", "layers", "layer_combination", "dimensions")
    if all(given.get(name) is None for name in names):
        return None
    options = encoding.PoolingOptions()
    set_fields(
        options,
        normalize=given.get("normalize"),
        dimensions=optional_whole(given.get("dimensions"), "dimensions", 1),
    )
    options.layers.extend(numbers_of(given.get("layers"), "layers"))
    if (mode := given.get("pooling")) is not None:
        options.mode = value_of(encoding.PoolingMode, mode, "pooling")
    if (combination := given.get("layer_combination")) is not None:
        options.layer_combination = value_of(encoding.LayerCombination, combination, "layer_combination")
    return options
