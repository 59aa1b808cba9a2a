"""Describe DeBERTa from its second version on: an architecture of its own, whose heads have poolers of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from bertstream.workers.compile.checkpoints.families.bert import (
    ANSWERS,
    DEFAULTS,
    LAYER,
    MASKED,
    POOLED_CHOICES,
    POOLED_TEXTS,
    SETTINGS,
    TOKENS,
)
from bertstream.workers.compile.checkpoints.families.family import Family, Head
from bertstream.workers.compile.checkpoints.tokenizer_classes import (
    BERT_TOKENIZER,
    Definition,
    SentencePieceClass,
    lowercase,
    space_marks,
)
from bertstream.workers.models.deberta import DebertaShape

_SPACES = (
    {"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "},
    {"type": "NFC"},
    {"type": "Strip", "strip_left": False, "strip_right": True},
)
_TOKENS = {**BERT_TOKENIZER.tokens, "bos": "[CLS]", "eos": "[SEP]"}

_POOLED: dict[str, Any] = {
    "modules": {"dense": "pooler.dense", "output": "classifier"},
    "reads_pooler": False,
    "activation": "gelu",
    "activation_setting": "pooler_hidden_act",
}
# As transformers has always saved it, and, after config.json's `legacy`, as the authors do.
_MASKED_TOKENS = Head(
    "fill_mask",
    MASKED,
    {"dense": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm"},
    kind="vocabulary",
    vocabulary_matrix="cls.predictions.decoder.weight",
    vocabulary_biases=("cls.predictions.decoder.bias", "cls.predictions.bias"),
    by_weights=True,
    activation="gelu",
    activation_setting="hidden_act",
)
_HEADS = (
    _MASKED_TOKENS,
    replace(
        _MASKED_TOKENS,
        modules={"dense": "lm_predictions.lm_head.dense", "norm": "lm_predictions.lm_head.LayerNorm"},
        vocabulary_matrix="lm_predictions.lm_head.decoder.weight",  # never there: it is the embeddings'
        vocabulary_biases=("lm_predictions.lm_head.bias",),
    ),
    replace(POOLED_TEXTS, **_POOLED),
    TOKENS,
    ANSWERS,
    replace(POOLED_CHOICES, **_POOLED),
)


class DebertaClass(SentencePieceClass):
    """Describe DebertaV2Tokenizer."""

    __slots__ = ()

    def made_by_5(self, file: Definition, settings: Mapping[str, Any], tokens: Mapping[str, str]) -> Definition:
        """Return a Unigram tokenizer that keeps spaces within a text, and no charts of SentencePiece's."""
        metaspace = space_marks("always" if settings.get("add_prefix_space", True) else "first")
        punctuation = [{"type": "Punctuation", "behavior": "Isolated"}] if settings.get("split_by_punct") else []
        return {
            **SentencePieceClass.made_by_5(self, file, settings, tokens),
            "normalizer": {"type": "Sequence", "normalizers": [*lowercase(settings, default=False), *_SPACES]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*punctuation, metaspace]},
            "decoder": metaspace,
        }

    def unknown_id(self, file: Definition, tokens: Mapping[str, str]) -> int:
        """Return the id of the unknown token."""
        pieces = [(piece, score) for piece, score in file["model"]["vocab"]]
        unknown = (tokens.get("unk"), 0.0)
        return pieces.index(unknown) if unknown in pieces else 1

    def post_processor_of_5(
        self, settings: Mapping[str, Any], tokens: Mapping[str, tuple[str, int]]
    ) -> dict[str, Any] | None:
        """Return the template "[CLS] A [SEP] B [SEP]", in which B and the [SEP] after it are the second segment."""
        return BERT_TOKENIZER.post_processor_of_5(settings, tokens)


def _kernel_as_rows(weight: Tensor) -> Tensor:
    """Lay out a convolution as a product with a token and its neighbours end to end.

    [H, H, k] -> [H, k H].
    """
    return weight.permute(0, 2, 1).flatten(1) if weight.dim() == 3 else weight


def _read(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings with the words' size, which is the layers' where none is given."""
    return {**values, "embedding_size": values.get("embedding_size", values["hidden_size"])}


DEBERTA = Family(
    name="deberta-v2",
    prefix="deberta.",
    shape=DebertaShape,
    settings={
        **SETTINGS,
        "embedding_size": "embedding_size",
        "has_positions": "position_biased_input",
        "relative_attention": "relative_attention",
        "products": "pos_att_type",
        "buckets": "position_buckets",
        "farthest": "max_relative_positions",
        "shares_projections": "share_att_key",
        "relative_norm": "norm_rel_ebd",
        "attention_head_size": "attention_head_size",
        "kernel": "conv_kernel_size",
        "kernel_groups": "conv_groups",
        "kernel_activation": "conv_act",
        "pooler_size": "pooler_hidden_size",
    },
    defaults={
        **DEFAULTS,
        "vocab_size": 128100,
        "hidden_size": 1536,
        "num_hidden_layers": 24,
        "num_attention_heads": 24,
        "intermediate_size": 6144,
        "type_vocab_size": 0,
        "layer_norm_eps": 1e-7,
        "position_biased_input": True,
        "relative_attention": False,
        "pos_att_type": None,
        "position_buckets": -1,
        "max_relative_positions": -1,
        "share_att_key": False,
        "norm_rel_ebd": "none",
        "attention_head_size": None,
        "conv_kernel_size": 0,
        "conv_groups": 1,
        "conv_act": "tanh",
        "pooler_hidden_size": None,
    },
    read=_read,
    modules={
        "embeddings.word": ("embeddings.word_embeddings",),
        "embeddings.position": ("embeddings.position_embeddings",),
        "embeddings.token_type": ("embeddings.token_type_embeddings",),
        "embeddings.projection": ("embeddings.embed_proj",),
        "embeddings.norm": ("embeddings.LayerNorm",),
        "relative": ("encoder.rel_embeddings",),
        "relative_norm": ("encoder.LayerNorm",),
        "convolution.linear": ("encoder.conv.conv",),
        "convolution.norm": ("encoder.conv.LayerNorm",),
    },
    layer={
        **LAYER,
        "query_key_value": (
            "attention.self.query_proj",
            "attention.self.key_proj",
            "attention.self.value_proj",
        ),
        "position_key": ("attention.self.pos_key_proj",),
        "position_query": ("attention.self.pos_query_proj",),
    },
    layer_prefix="encoder.layer.{}.",
    arranged={"layers.0.convolution.linear.weight": _kernel_as_rows},
    heads=_HEADS,
    head_prefixes=("cls.", "lm_predictions.", "mask_predictions.", "pooler.", "classifier.", "qa_outputs."),
    # Saved whether config.json uses them or not.
    unread=("embeddings.position_embeddings.weight", "encoder.LayerNorm.weight", "encoder.LayerNorm.bias"),
    tokenizer_class="DebertaV2Tokenizer",
    tokenizer=DebertaClass("Unigram", _TOKENS),
    sentencepiece="spm.model",
)
