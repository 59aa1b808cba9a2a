"""Answers of the wire to the SDK's values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.client._encoding.tensors import array_of
from bertstream.client._enums import name_of
from bertstream.client._errors import unexpected_response
from bertstream.client._types import (
    FloatArray,
    GenerationDescription,
    Limits,
    Model,
    Pooling,
    PrecisionTest,
    SpecialToken,
    StreamWindow,
    Tokens,
)
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import models_pb2 as models
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types

_SAME_NAMES = (
    *("name", "revision", "family", "architecture", "layers", "hidden_size", "attention_heads", "vocabulary_size"),
    *("type_vocabulary_size", "max_tokens", "default_max_length", "has_pooler", "device", "workers", "live_workers"),
    *("native_operators", "default_prompt_name"),
)


def model_of(message: models.Model) -> Model:
    """A Model."""
    return Model(
        **{name: getattr(message, name) for name in _SAME_NAMES},
        compute_type=name_of(types.DataType, message.compute_type),
        default_pooling=pooling_of(message.default_pooling),
        prompts=dict(message.prompts),
        special_tokens={special.role: SpecialToken(special.token, special.id) for special in message.special_tokens},
        outputs=tuple(name_of(encoding.EncodingOutput, output) for output in message.outputs),
        heads=tuple(message.heads),
        limits=_limits_of(message.limits),
        warnings=tuple(message.warnings),
        precision_test=_precision_test_of(message),
        labels=tuple(message.labels),
        generation=_generation_of(message),
        pooling_steps=tuple(message.pooling_steps),
    )


def tokens_of(message: tokenization.Tokenizations, texts: int) -> list[list[Tokens]]:
    """For each of so many texts its Tokens, one a window; text_index counts within the message."""
    ends = np.cumsum([0, *message.lengths])
    indexes = list(message.text_indexes) or list(range(len(message.lengths)))
    if len(indexes) != len(message.lengths) or ends[-1] != len(message.token_ids):
        raise unexpected_response("tokenizations whose columns differ in length")
    columns = _columns_of(message)
    rows: list[list[Tokens]] = [[] for _ in range(texts)]
    for row, index in enumerate(indexes):
        if not 0 <= index < texts:
            raise unexpected_response(f"tokens of text {index}, of {texts}")
        part = slice(ends[row], ends[row + 1])
        rows[index].append(Tokens(**{name: column[part] for name, column in columns.items()}, text_index=index))
    return rows


def vectors_of(tensor: types.Tensor) -> FloatArray:
    """A tensor that must be [texts, dimensions]."""
    vectors = array_of(tensor)
    if vectors.ndim != 2:
        raise unexpected_response(f"vectors of shape {list(vectors.shape)}")
    return vectors


def pooling_of(message: encoding.PoolingOptions) -> Pooling:
    """A Pooling."""
    return Pooling(
        mode=name_of(encoding.PoolingMode, message.mode),
        layers=tuple(message.layers),
        layer_combination=name_of(encoding.LayerCombination, message.layer_combination),
        normalize=message.normalize,
        dimensions=message.dimensions,
    )


def _columns_of(message: tokenization.Tokenizations) -> dict[str, Any]:
    starts, ends = _integers(message.starts), _integers(message.ends)
    if len(starts) != len(ends):
        raise unexpected_response("offsets with more starts than ends, or fewer")
    columns: dict[str, Any] = {
        "token_ids": _integers(message.token_ids),
        "tokens": list(message.tokens),
        "offsets": np.stack([starts, ends], axis=1),
        "token_type_ids": _integers(message.token_type_ids),
        "special_tokens_mask": np.fromiter(message.special_tokens_mask, np.bool_),
        "word_ids": _integers(message.word_ids),
        "sequence_ids": _integers(message.sequence_ids),
    }
    if any(len(column) not in (0, len(message.token_ids)) for column in columns.values()):
        raise unexpected_response("tokenizations whose columns differ in length")
    return columns


def _integers(values: Iterable[int]) -> NDArray[np.int32]:
    return np.fromiter(values, np.int32)


def _precision_test_of(message: models.Model) -> PrecisionTest | None:
    if not message.HasField("precision_test"):
        return None
    return PrecisionTest(message.precision_test.max_abs_difference, message.precision_test.min_cosine)


def _generation_of(message: models.Model) -> GenerationDescription | None:
    if not message.HasField("generation"):
        return None
    found = message.generation
    eos = tuple(found.eos_token_ids)
    return GenerationDescription(found.vocabulary_size, found.max_tokens, eos, found.cache_tokens)


def _limits_of(message: models.ModelLimits) -> Limits:
    window = StreamWindow(message.stream_window.max_items, message.stream_window.max_tokens)
    return Limits(message.max_texts, message.max_request_bytes, message.max_response_bytes, window)
