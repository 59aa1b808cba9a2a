"""Split an encoder-decoder's weights into its two sides, which may share them, and rename the decoder's to ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bertstream.workers.compile.checkpoints.config import CheckpointConfig
from bertstream.workers.compile.checkpoints.families import Family
from bertstream.workers.compile.checkpoints.head_weights import convert_head
from bertstream.workers.compile.checkpoints.weights import PARTS, convert_named, joined, todays_name
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.models import DECODER_PREFIX, BertShape, DecoderShape, decoder_weight_shapes

ENCODER_SIDE, DECODER_SIDE, PROJECTION = "encoder.", "decoder.", "enc_to_dec_proj"


@dataclass(frozen=True, slots=True)
class FoundDecoder:
    """Hold the decoder of an encoder-decoder."""

    shape: DecoderShape
    weights: dict[str, Tensor]  # by a Model's names, float32


def encoder_side(weights: Mapping[str, Tensor], config: CheckpointConfig) -> Mapping[str, Tensor]:
    """Return the encoder's weights, by the names that the checkpoint would have for an encoder alone."""
    if config.decoder is None:
        return weights
    encoder = _side(weights, ENCODER_SIDE)
    if not config.shares_sides:
        return encoder
    # transformers 4, which knew of shared weights, wrote these under the decoder's names alone.
    return _shareable(_side(weights, DECODER_SIDE), config.decoder.family) | encoder


def find_decoder(
    weights: Mapping[str, Tensor], encoder: Mapping[str, Tensor], config: CheckpointConfig
) -> FoundDecoder | None:
    """Return the decoder, or None where the configuration has none.

    weights: the checkpoint's. encoder: the encoder's, converted. Where the two sides share weights, so do these two
    tables. Raises CheckpointError that names weights that are missing, unexpected or of a wrong shape.
    """
    if config.decoder is None:
        return None
    own = _side(weights, DECODER_SIDE)
    if config.shares_sides:
        prefix = config.decoder.family.prefix
        own = {
            f"{prefix}{name}": w for name, w in _shareable(encoder_side(weights, config), config.family).items()
        } | own
    try:
        shape, converted = _convert(own, config.decoder)
    except CheckpointError as error:
        raise CheckpointError(f"the decoder: {error}") from error
    if config.shape.hidden_size != shape.shape.hidden_size:
        converted |= _projection(weights)
    _check_shapes(shape, converted, config.shape.hidden_size)
    if config.shares_sides:
        converted |= {name: encoder[name] for name, w in converted.items() if _is_same(w, encoder.get(name))}
    return FoundDecoder(shape, {DECODER_PREFIX + name: weight for name, weight in converted.items()})


def _side(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _shareable(side: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """Return the weights that the other side has too, without the family's prefix."""
    return {
        name.removeprefix(family.prefix): weight
        for name, weight in _without_pooler(side, family).items()
        if not name.startswith(family.head_prefixes) and not family.is_cross_attention(name)
    }


def _convert(weights: Mapping[str, Tensor], config: CheckpointConfig) -> tuple[DecoderShape, dict[str, Tensor]]:
    family, shape = config.family, config.shape
    assert isinstance(shape, BertShape)  # only BERT's shape has decoders
    possible = next(each for each in config.heads.possible if each.head.name == "causal_lm")
    names = [
        name
        for name in decoder_weight_shapes(DecoderShape(shape, possible.shape), shape.hidden_size)
        if not name.startswith("head.")
    ]
    converted = convert_named(_without_pooler(weights, family), family, names)
    words = converted["embeddings.word.weight"]
    named = {todays_name(name, family): weight for name, weight in weights.items()}
    head, own = convert_head(possible, named, words, shape, tied=config.heads.tied)
    return DecoderShape(shape, head), converted | {f"head.{name}": weight for name, weight in own.items()}


def _without_pooler(weights: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    return {name: w for name, w in weights.items() if not name.removeprefix(family.prefix).startswith("pooler.")}


def _projection(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sources = {part: f"{PROJECTION}.{part}" for part in PARTS}
    if missing := [name for name in sources.values() if name not in weights]:
        raise CheckpointError(f"encoder and decoder are of different sizes, and {', '.join(missing)} is not there")
    return {f"projection.{part}": joined([weights[name]], (name,)) for part, name in sources.items()}


def _check_shapes(shape: DecoderShape, weights: Mapping[str, Tensor], source_size: int) -> None:
    for name, wanted in decoder_weight_shapes(shape, source_size).items():
        if weights[name].shape != wanted:
            found = list(weights[name].shape)
            raise CheckpointError(f"the decoder's weight {name} is {found}, and config.json says {list(wanted)}")


def _is_same(weight: Tensor, other: Tensor | None) -> bool:
    return other is not None and torch.equal(weight, other)
