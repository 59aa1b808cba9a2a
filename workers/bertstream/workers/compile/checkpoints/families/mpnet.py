"""Describe MPNet: an architecture of its own, with RoBERTa's heads and a tokenizer between BERT's and RoBERTa's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertstream.workers.compile.checkpoints.families.bert import (
    ANSWERS,
    DEFAULTS,
    MASKED,
    POOLED_CHOICES,
    SETTINGS,
    TOKENS,
)
from bertstream.workers.compile.checkpoints.families.family import Family, Head
from bertstream.workers.compile.checkpoints.families.roberta import TEXTS
from bertstream.workers.compile.checkpoints.tokenizer_classes import BertClass, Fields
from bertstream.workers.models.mpnet import MPNetShape

_TOKENS = {
    "cls": "<s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>", "unk": "[UNK]", "bos": "<s>", "eos": "</s>",
}  # fmt: skip


class MPNetClass(BertClass):
    """Describe MPNetTokenizer: BERT's words with RoBERTa's special tokens."""

    __slots__ = ()

    def set_by_4(self, settings: Mapping[str, Any]) -> Fields:
        """Return the normalizer's settings except the one for Chinese characters."""
        found = BertClass.set_by_4(self, settings)
        return {name: value for name, value in found.items() if name != ("normalizer", "handle_chinese_chars")}

    def post_processor_of_5(
        self, settings: Mapping[str, Any], tokens: Mapping[str, tuple[str, int]]
    ) -> dict[str, Any] | None:
        """Return the template "<s> A </s> </s> B </s>"."""
        if not {"cls", "sep"} <= tokens.keys():
            return None
        ends = {"sep": list(tokens["sep"]), "cls": list(tokens["cls"])}
        return {"type": "RobertaProcessing", **ends, "trim_offsets": True, "add_prefix_space": False}


_HEADS = (
    Head(
        "fill_mask",
        MASKED,
        {"dense": "lm_head.dense", "norm": "lm_head.layer_norm"},
        kind="vocabulary",
        vocabulary_matrix="lm_head.decoder.weight",
        vocabulary_biases=("lm_head.decoder.bias", "lm_head.bias"),
        by_weights=True,
        activation="gelu",
    ),
    TEXTS,
    TOKENS,
    ANSWERS,
    POOLED_CHOICES,
)

MPNET = Family(
    name="mpnet",
    prefix="mpnet.",
    shape=MPNetShape,
    settings={
        **{ours: theirs for ours, theirs in SETTINGS.items() if ours != "type_vocabulary_size"},
        "buckets": "relative_attention_num_buckets",
    },
    defaults={**DEFAULTS, "vocab_size": 30527, "relative_attention_num_buckets": 32},
    modules={
        "embeddings.word": ("embeddings.word_embeddings",),
        "embeddings.position": ("embeddings.position_embeddings",),
        "embeddings.norm": ("embeddings.LayerNorm",),
        "relative_bias": ("encoder.relative_attention_bias",),
        "pooler.dense": ("pooler.dense",),
    },
    layer={
        "query_key_value": ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        "attention_output.linear": ("attention.attn.o",),
        "attention_output": ("attention.LayerNorm",),
        "feed_forward.intermediate": ("intermediate.dense",),
        "feed_forward.output.linear": ("output.dense",),
        "feed_forward.output": ("output.LayerNorm",),
    },
    layer_prefix="encoder.layer.{}.",
    heads=_HEADS,
    head_prefixes=("lm_head.", "classifier.", "qa_outputs."),
    tokenizer_class="MPNetTokenizer",
    tokenizer=MPNetClass("WordPiece", _TOKENS, mask_takes_space=(4, 5)),
)
