"""Describe ALBERT, whose layers take turns, and which tells whether two sentences are in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertstream.workers.compile.checkpoints.families.bert import (
    ANSWERS,
    DEFAULTS,
    EMBEDDINGS,
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
    precompiled,
)
from bertstream.workers.models.albert import AlbertShape

_PRE_TRAINING = ("ForPreTraining",)
_TOKENS = {**BERT_TOKENIZER.tokens, "pad": "<pad>", "unk": "<unk>", "bos": "[CLS]", "eos": "[SEP]"}
_QUOTES = tuple({"type": "Replace", "pattern": {"String": quote}, "content": '"'} for quote in ("``", "''"))


class AlbertClass(SentencePieceClass):
    """Describe AlbertTokenizer."""

    __slots__ = ()

    def made_by_5(self, file: Definition, settings: Mapping[str, Any], tokens: Mapping[str, str]) -> Definition:
        """Return a Unigram tokenizer of words in small letters without accents."""
        accents = [] if settings.get("keep_accents") else [{"type": "NFKD"}, {"type": "StripAccents"}]
        own = precompiled(file["normalizer"])
        steps = [*_QUOTES, *accents, *lowercase(settings, default=True), *([] if own is None else [own])]
        made = SentencePieceClass.made_by_5(self, file, settings, tokens)
        return {**made, "normalizer": {"type": "Sequence", "normalizers": steps}}

    def unknown_id(self, file: Definition, tokens: Mapping[str, str]) -> int:
        """Return the id of the unknown token."""
        return 1

    def post_processor_of_5(
        self, settings: Mapping[str, Any], tokens: Mapping[str, tuple[str, int]]
    ) -> dict[str, Any] | None:
        """Return the template "[CLS] A [SEP] B [SEP]", in which B and the [SEP] after it are the second segment."""
        return BERT_TOKENIZER.post_processor_of_5(settings, tokens)


_HEADS = (
    Head(
        "fill_mask",
        MASKED + _PRE_TRAINING,
        {"dense": "predictions.dense", "norm": "predictions.LayerNorm"},
        kind="vocabulary",
        vocabulary_matrix="predictions.decoder.weight",
        vocabulary_biases=("predictions.decoder.bias", "predictions.bias"),
        by_weights=True,
        activation_setting="hidden_act",
    ),
    # In the right order or not, which BERT's head for the next sentence says too.
    Head(
        "next_sentence",
        _PRE_TRAINING,
        {"output": "sop_classifier.classifier"},
        by_weights=True,
        outputs=2,
        reads_pooler=True,
    ),
    POOLED_TEXTS,
    TOKENS,
    ANSWERS,
    POOLED_CHOICES,
)


def _read(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings with all layers that a text passes, of which config.json counts the groups."""
    turns, each = values["num_hidden_layers"], values["inner_group_num"]
    if not isinstance(turns, int) or not isinstance(each, int):
        return values  # refused as what it is
    return {**values, "num_hidden_layers": turns * each}


ALBERT = Family(
    name="albert",
    prefix="albert.",
    shape=AlbertShape,
    settings={
        **SETTINGS,
        "embedding_size": "embedding_size",
        "groups": "num_hidden_groups",
        "group_layers": "inner_group_num",
    },
    defaults={
        **DEFAULTS,
        "vocab_size": 30000,
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "hidden_act": "gelu_new",
        "num_hidden_groups": 1,
        "inner_group_num": 1,
    },
    read=_read,
    modules={
        **EMBEDDINGS,
        "embeddings.projection": ("encoder.embedding_hidden_mapping_in",),
        "pooler.dense": ("pooler",),
    },
    layer={
        "query_key_value": ("attention.query", "attention.key", "attention.value"),
        "attention_output.linear": ("attention.dense",),
        "attention_output": ("attention.LayerNorm",),
        "feed_forward.intermediate": ("ffn",),
        "feed_forward.output.linear": ("ffn_output",),
        "feed_forward.output": ("full_layer_layer_norm",),
    },
    layer_prefix="encoder.albert_layer_groups.{}.albert_layers.{}.",
    heads=_HEADS,
    head_prefixes=("predictions.", "sop_classifier.", "classifier.", "qa_outputs."),
    tokenizer_class="AlbertTokenizer",
    tokenizer=AlbertClass("Unigram", _TOKENS, keeps_post_processor=True, mask_takes_space=(4,)),
    sentencepiece="spiece.model",
)
