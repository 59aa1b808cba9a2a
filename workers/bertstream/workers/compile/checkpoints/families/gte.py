"""Describe GTE's encoder: "gte" in transformers 5, and "new" in its authors' checkpoints, with code of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bertstream.workers.compile.checkpoints.families.bert import (
    ANSWERS,
    DEFAULTS,
    EMBEDDINGS,
    MASKED,
    POOLED_CHOICES,
    POOLED_TEXTS,
    POOLER,
    SETTINGS,
    TOKENS,
)
from bertstream.workers.compile.checkpoints.families.family import Family, Head
from bertstream.workers.compile.checkpoints.families.rotary import longest, read_rotary
from bertstream.workers.compile.checkpoints.tokenizer_classes import XLM_ROBERTA_TOKENIZER
from bertstream.workers.compile.sources.bounds import shown
from bertstream.workers.models.rotary_bert import RotaryBertShape

# What their own code could do besides: key -> the values that change nothing.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("rope",),
    "layer_norm_type": ("layer_norm",),
    "pack_qkv": (True,),
    "logn_attention_scale": (False,),
}


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    for key, harmless in _HARMLESS.items():
        if key in values and values[key] not in harmless:
            raise ValueError(f"{key} = {shown(values[key])} is not supported for {values['model_type']}")
    scaling = values.get("rope_parameters") or values.get("rope_scaling")
    positions = values["max_position_embeddings"]
    trained = positions if values["model_type"] == "gte" else None  # their own code has no angles by length
    rotary = read_rotary(scaling, "rope_parameters", values["rope_theta"], trained)
    return {**values, "rotary": rotary, "positions": longest(rotary, positions), "position_embedding_type": None}


_VOCABULARY = Head(
    "fill_mask",
    MASKED,
    {"dense": "lm_head.dense", "norm": "lm_head.norm"},
    kind="vocabulary",
    vocabulary_matrix="lm_head.decoder.weight",
    vocabulary_biases=("lm_head.decoder.bias",),
    by_weights=True,
    activation="gelu",
)

GTE = Family(
    name="gte",
    prefix="gte.",
    other_prefixes=("new.",),
    shape=RotaryBertShape,
    settings={**SETTINGS, "positions": "positions", "rotary": "rotary"},
    defaults={
        **DEFAULTS,
        "vocab_size": 250048,
        "max_position_embeddings": 8192,
        "type_vocab_size": 1,
        "rope_theta": 160_000.0,
    },
    fixed={
        "query_key_value_bias": True,
        "attention_output_bias": True,
        "gate_bias": False,
        "output_bias": True,
    },
    read=_read,
    modules={**{ours: theirs for ours, theirs in EMBEDDINGS.items() if ours != "embeddings.position"}, **POOLER},
    layer={
        "query_key_value": ("attention.qkv_proj",),
        "attention_output.linear": ("attention.o_proj",),
        "attention_output": ("attn_ln",),
        "gated.up": ("mlp.up_gate_proj",),
        "gated.gate": ("mlp.up_gate_proj",),
        "output.linear": ("mlp.down_proj",),
        "output": ("mlp_ln",),
    },
    halves={"gated.up": 0, "gated.gate": 1},
    layer_prefix="encoder.layer.{}.",
    heads=(_VOCABULARY, POOLED_TEXTS, TOKENS),
    head_prefixes=("lm_head.", "classifier.", "qa_outputs."),
    tokenizer_class="XLMRobertaTokenizer",
    tokenizer=XLM_ROBERTA_TOKENIZER,
    sentencepiece="sentencepiece.bpe.model",
)
NEW = replace(
    GTE,
    name="new",
    prefix="new.",
    other_prefixes=(),
    defaults={**GTE.defaults, "vocab_size": 30528, "max_position_embeddings": 2048, "rope_theta": 10_000.0},
    heads=(replace(_VOCABULARY, activation_setting="hidden_act"), POOLED_TEXTS, TOKENS, ANSWERS, POOLED_CHOICES),
    own_code=("modeling.New",),
)
