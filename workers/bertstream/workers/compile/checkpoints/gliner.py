"""Read what a GLiNER checkpoint has beside its encoder: the head that scores spans by labels, and the labels' marks.

Source: release 0.2.29 of the package gliner, which saves `gliner_config.json` and the weights of all parts in one file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from bertstream.workers.compile.checkpoints.head_weights import FoundHeads
from bertstream.workers.compile.checkpoints.tokenizer import TokenizerSettings
from bertstream.workers.compile.checkpoints.tokenizer_versions import token_ids
from bertstream.workers.compile.checkpoints.weights import SHOWN, joined
from bertstream.workers.compile.sources.bounds import MOST_WIDTH, check_count, is_count, shown
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_object
from bertstream.workers.compile.sources.gliner import FILE_NAME
from bertstream.workers.contract import HeadName
from bertstream.workers.models import EncoderShape, HeadShape, state_name, weight_shapes
from bertstream.workers.programs.description import EntityDescription

HEAD: HeadName = "zero_shot_entities"
_WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
_ENCODER = "token_rep_layer.bert_layer.model."
_MOST_WORDS, _MOST_SPAN, _MOST_LAYERS = 1 << 16, 1 << 8, 1 << 4
_UNUSED_MARK = "[FLERT]"  # a token that the package adds before its two marks
# Settings that change the numbers in ways we do not compute: key -> the values that change nothing.
_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "labels_encoder": (None, ""),
    "labels_encoder_config": (None,),
    "labels_decoder": (None, ""),
    "decoder_config": (None,),
    "relations_layer": (None,),
    "span_mode": ("markerV0",),
    "span_encoder_config": (None,),
    "subtoken_pooling": (None, "first"),
    "words_splitter_type": (None, "whitespace"),
    "post_fusion_schema": (None, ""),
    "fuse_layers": (None, False),
    "precomputed_prompts_mode": (None, False),
}
_PARTS = {
    "projection": "token_rep_layer.projection",
    "label.inner": "prompt_rep_layer.0",
    "label.output": "prompt_rep_layer.3",
    "first.inner": "span_rep_layer.span_rep_layer.project_start.0",
    "first.output": "span_rep_layer.span_rep_layer.project_start.3",
    "last.inner": "span_rep_layer.span_rep_layer.project_end.0",
    "last.output": "span_rep_layer.span_rep_layer.project_end.3",
    "of_first": "span_rep_layer.span_rep_layer.out_project.0",  # its columns for the first word
    "of_last": "span_rep_layer.span_rep_layer.out_project.0",  # and for the last
    "output": "span_rep_layer.span_rep_layer.out_project.3",
}
_RECURRENCE = "recurrence."


@dataclass(frozen=True, slots=True)
class GlinerSettings:
    """Hold what gliner_config.json says."""

    path: Path
    width: int
    description: EntityDescription
    recurrent_layers: int
    label_id: int  # of the token before each label; -1 where the file does not say

    @property
    def shape(self) -> HeadShape:
        """Return the shape of the head."""
        return HeadShape(
            HEAD, self.description.longest, "spans", width=self.width, recurrent_layers=self.recurrent_layers
        )


def read_gliner(root: Path) -> GlinerSettings | None:
    """Parse the checkpoint's gliner_config.json; None where there is none. Raises CheckpointError."""
    path, values = root / FILE_NAME, read_object(root / FILE_NAME)
    if not values:
        return None
    for key, harmless in _HARMLESS.items():
        if values.get(key, harmless[0]) not in harmless:
            about = "these are: models of one encoder that score spans by their first and last word (markerV0)"
            raise CheckpointError(f"{path}: {key} = {shown(values[key])} is not supported; {about}")
    width = check_count(values.get("hidden_size", 512), MOST_WIDTH, path, "hidden_size")
    layers = values.get("num_rnn_layers", 1)
    if not is_count(layers) or layers > _MOST_LAYERS or (layers and width % 2):
        raise CheckpointError(f"{path}: num_rnn_layers must be 0 to {_MOST_LAYERS}, and 0 for an odd hidden_size")
    description = EntityDescription(
        longest=check_count(values.get("max_width", 12), _MOST_SPAN, path, "max_width"),
        max_words=check_count(values.get("max_len", 384), _MOST_WORDS, path, "max_len"),
        label_token=_token(values, "ent_token", "<<ENT>>", path),
        text_token=_token(values, "sep_token", "<<SEP>>", path),
        reads_name=values.get("embed_ent_token") is False,
    )
    label_id = values.get("class_token_index", -1)
    return GlinerSettings(path, width, description, layers, label_id if is_count(label_id) else -1)


def _token(values: Mapping[str, Any], key: str, default: str, path: Path) -> str:
    token = values.get(key, default)
    if not isinstance(token, str) or not token.strip():
        raise CheckpointError(f"{path}: {key} must be a token, not {shown(token)}")
    return token


@dataclass(frozen=True, slots=True)
class GlinerParts:
    """Hold the weights of a checkpoint, part by part."""

    encoder: dict[str, Tensor]  # by the names that an encoder alone has
    shape: EncoderShape
    heads: FoundHeads


def take_apart(weights: Mapping[str, Tensor], settings: GlinerSettings, shape: EncoderShape) -> GlinerParts:
    """Return the checkpoint's encoder and head.

    shape: as the encoder's settings say, which may know of fewer ids than there are embeddings. Raises CheckpointError
    that names weights of the head that are missing, unexpected or of a wrong shape.
    """
    encoder = {name.removeprefix(_ENCODER): each for name, each in weights.items() if name.startswith(_ENCODER)}
    embeddings = encoder.get(_WORD_EMBEDDINGS)
    if embeddings is not None and embeddings.dim() == 2:
        shape = replace(shape, vocabulary_size=len(embeddings))
    beside = {name: each for name, each in weights.items() if not name.startswith(_ENCODER)}
    return GlinerParts(encoder, shape, _find_head(beside, settings, shape))


def with_marks(tokenizer: TokenizerSettings, settings: GlinerSettings, vocabulary_size: int) -> TokenizerSettings:
    """Return the tokenizer with the tokens before labels and before the text, added as the package does.

    Raises CheckpointError where they are not those of the weights.
    """
    from tokenizers import AddedToken, Tokenizer  # few checkpoints need it

    own = settings.description
    if own.label_token not in token_ids(tokenizer.definition):
        made = Tokenizer.from_str(json.dumps(tokenizer.definition))
        marks = (_UNUSED_MARK, own.label_token, own.text_token)
        made.add_special_tokens([AddedToken(each, normalized=False, special=True) for each in marks])
        definition = json.loads(made.to_str())
        tokenizer = replace(tokenizer, definition=definition, highest_id=max(token_ids(definition).values()))
    found = token_ids(tokenizer.definition)[own.label_token]
    if found >= vocabulary_size or settings.label_id not in (-1, found):
        about = f"class_token_index is {settings.label_id}, of {vocabulary_size} embeddings"
        raise CheckpointError(f"{settings.path}: the tokenizer's {own.label_token} is {found}, and {about}")
    return tokenizer


def _find_head(weights: Mapping[str, Tensor], settings: GlinerSettings, encoder: EncoderShape) -> FoundHeads:
    expected = weight_shapes(encoder, settings.shape)
    sources = {ours: _source(ours) for ours in expected}
    wanted_names = set(sources.values())
    for what, names in (("lacks", wanted_names - weights.keys()), ("has unknown", weights.keys() - wanted_names)):
        if names:
            about = f"{', '.join(sorted(names)[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
            raise CheckpointError(f"{settings.path.parent}: the checkpoint {what} weights of its head: {about}")
    found = {ours: _part(ours, joined([weights[theirs]], (theirs,))) for ours, theirs in sources.items()}
    for ours, wanted in expected.items():
        if found[ours].shape != wanted:
            its = f"is {list(weights[sources[ours]].shape)}, which does not fit hidden_size {settings.width}"
            raise CheckpointError(f"{settings.path}: weight {sources[ours]} {its}")
    return FoundHeads((settings.shape,), {state_name(settings.shape, name): each for name, each in found.items()}, ())


def _source(ours: str) -> str:
    """Return the checkpoint's name of one of our weights."""
    if ours.startswith(_RECURRENCE):
        layer, name = ours.removeprefix(_RECURRENCE).split(".")
        kind, reverse = name.removesuffix("_reverse"), "_reverse" if name.endswith("_reverse") else ""
        return f"rnn.lstm.{kind}_l{layer}{reverse}"
    module, _, part = ours.rpartition(".")
    return f"{_PARTS[module]}.{part}"


def _part(ours: str, weight: Tensor) -> Tensor:
    """Return the columns for a span's first or last word of a matrix for both; all of any other weight."""
    if ours not in ("of_first.weight", "of_last.weight") or weight.dim() != 2:
        return weight
    half = weight.size(1) // 2
    return (weight[:, :half] if ours == "of_first.weight" else weight[:, half:]).contiguous()
