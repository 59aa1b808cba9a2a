"""Make a model, which encodes or generates too, from shapes and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bertstream.workers.models.architectures import encoder_of
from bertstream.workers.models.decoder import Decoder, DecoderShape
from bertstream.workers.models.generating import CAUSAL, CausalModel, EncoderDecoder
from bertstream.workers.models.heads import FLOAT32_KINDS, state_name
from bertstream.workers.models.linear import Linear, Packed, Source
from bertstream.workers.models.model import Model
from bertstream.workers.models.sentence import PREFIX as SENTENCE_PREFIX
from bertstream.workers.models.shape import NO_SENTENCE, EncoderShape, HeadShape, Operators, SentenceShape

# The prefixes of an encoder's and a decoder's weights in their Model.
ENCODER_PREFIX, DECODER_PREFIX = "encoder.", "decoder."
STATIC_WEIGHTS = "static.0.weight"  # their name in a Model


def load_model(
    shape: EncoderShape,
    operators: Operators,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype,
    heads: Sequence[HeadShape] = (),
    decoder: DecoderShape | None = None,
    largest: Mapping[str, Tensor] | None = None,
    sentence: SentenceShape = NO_SENTENCE,
) -> Model:
    """Return a model with these weights in `dtype`; weights of that type are shared, not copied.

    largest: the result of largest_inputs, for products of int8. What is computed of pooled vectors is always float32.
    """
    with torch.device("meta"):  # takes no memory and no random numbers for weights that are about to be replaced
        model = _new_model(shape, operators, heads, decoder, sentence, weights)
    linear = {name: module for name, module in model.named_modules() if isinstance(module, Linear)}
    every = model.named_modules(remove_duplicate=False)  # one layer may have several names
    exact = {f"{name}.weight" for name, module in every if isinstance(module, Linear) and module.coarse}
    in_float32 = tuple(state_name(head, "") for head in heads if head.kind in FLOAT32_KINDS)
    exact |= {name for name in weights if name.startswith((SENTENCE_PREFIX, STATIC_WEIGHTS, *in_float32))}
    converted = _converted(weights, dtype, exact)
    model.load_state_dict(converted, assign=True)
    model.encoder.prepare()
    made: dict[Source, Packed] = {}
    for name, module in linear.items():
        module.finish(made, (largest or {}).get(name))
    return model.eval().requires_grad_(False)


def _converted(weights: Mapping[str, Tensor], dtype: torch.dtype, exact: set[str]) -> dict[str, Tensor]:
    """Return the weights in `dtype`, except those that stay `exact`. A tensor under two names stays one."""
    converted: dict[int, Tensor] = {}
    for name, weight in weights.items():
        if name not in exact and id(weight) not in converted:
            converted[id(weight)] = weight.to(dtype)
    return {name: weight if name in exact else converted[id(weight)] for name, weight in weights.items()}


def _new_model(
    shape: EncoderShape,
    operators: Operators,
    heads: Sequence[HeadShape],
    decoder: DecoderShape | None,
    sentence: SentenceShape,
    weights: Mapping[str, Tensor],
) -> Model:
    if decoder is not None:
        return EncoderDecoder(shape, operators, heads, decoder, sentence)
    if any(head.name == CAUSAL for head in heads):
        return CausalModel(shape, operators, heads, sentence)
    static = len(weights[STATIC_WEIGHTS]) if STATIC_WEIGHTS in weights else 0
    return Model(shape, operators, heads, sentence, static)


def encoder_weight_shapes(shape: EncoderShape) -> dict[str, torch.Size]:
    """Return the shapes of the encoder's weights, by their names within it."""
    with torch.device("meta"):
        module = encoder_of(shape, Operators())
    return {name: weight.shape for name, weight in module.state_dict().items()}


def decoder_weight_shapes(decoder: DecoderShape, source_size: int) -> dict[str, torch.Size]:
    """Return the shapes of the decoder's weights, by their names within it."""
    with torch.device("meta"):
        module = Decoder(decoder, source_size, Operators())
    return {name: weight.shape for name, weight in module.state_dict().items()}
