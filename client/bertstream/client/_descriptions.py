"""Descriptions of models, read from messages."""

from __future__ import annotations

from bertstream.client._enums import name_of
from bertstream.client._types import (
    GenerationDescription,
    Limits,
    Model,
    MultiVector,
    Pooling,
    PrecisionTest,
    SpecialToken,
    StreamWindow,
)
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import models_pb2 as models
from bertstream.v1 import types_pb2 as types

_SAME_NAMES = (
    *("name", "revision", "family", "architecture", "layers", "hidden_size", "attention_heads", "vocabulary_size"),
    *("type_vocabulary_size", "max_tokens", "default_max_length", "has_pooler", "device", "workers", "live_workers"),
    *("native_operators", "default_prompt_name", "cpu_instructions"),
)


def model_of(message: models.Model) -> Model:
    """Return the Model that a message describes."""
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
        multi_vector=_multi_vector_of(message),
    )


def pooling_of(message: encoding.PoolingOptions) -> Pooling:
    """Return the Pooling that a message describes."""
    return Pooling(
        mode=name_of(encoding.PoolingMode, message.mode),
        layers=tuple(message.layers),
        layer_combination=name_of(encoding.LayerCombination, message.layer_combination),
        normalize=message.normalize,
        dimensions=message.dimensions,
    )


def _precision_test_of(message: models.Model) -> PrecisionTest | None:
    if not message.HasField("precision_test"):
        return None
    return PrecisionTest(message.precision_test.max_abs_difference, message.precision_test.min_cosine)


def _generation_of(message: models.Model) -> GenerationDescription | None:
    if not message.HasField("generation"):
        return None
    described = message.generation
    eos = tuple(described.eos_token_ids)
    return GenerationDescription(described.vocabulary_size, described.max_tokens, eos, described.cache_tokens)


def _multi_vector_of(message: models.Model) -> MultiVector | None:
    if not message.HasField("multi_vector"):
        return None
    own = message.multi_vector
    return MultiVector(own.dimensions, own.similarity, own.query_length, own.document_length, own.expanded_length)


def _limits_of(message: models.ModelLimits) -> Limits:
    window = StreamWindow(message.stream_window.max_items, message.stream_window.max_tokens)
    return Limits(message.max_texts, message.max_request_bytes, message.max_response_bytes, window)
