"""The model families: what they call their weights and settings. A new family is a new table here.

Source of the names: the checkpoints on the Hugging Face hub, as transformers reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Family:
    """Names in a checkpoint on the right, ours on the left. A tuple of several is joined, first axis first."""

    name: str  # config.json's model_type
    prefix: str  # before the encoder's weights in checkpoints that have a head
    settings: Mapping[str, str]  # our setting -> config.json's key
    defaults: Mapping[str, Any]  # config.json's keys that old checkpoints leave out -> transformers' default
    embeddings: Mapping[str, tuple[str, ...]]
    layer: Mapping[str, tuple[str, ...]]  # below layer_prefix
    layer_prefix: str  # with {} for the layer's number, from 0
    pooler: Mapping[str, tuple[str, ...]]  # empty where the family has none
    head_prefixes: tuple[str, ...]  # weights of task heads, which the encoder does without
    buffers: tuple[str, ...] = ("embeddings.position_ids", "embeddings.token_type_ids")  # not weights
    renamed: Mapping[str, str] = field(default_factory=dict)  # endings of old names -> today's
    positions_skip_padding: bool = False


_BERT_SETTINGS = {
    "vocabulary_size": "vocab_size",
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "positions": "max_position_embeddings",
    "type_vocabulary_size": "type_vocab_size",
    "activation": "hidden_act",
    "layer_norm_eps": "layer_norm_eps",
    "pad_token_id": "pad_token_id",
}

_BERT_DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}

_BERT_EMBEDDINGS = {
    "word": ("embeddings.word_embeddings",),
    "position": ("embeddings.position_embeddings",),
    "token_type": ("embeddings.token_type_embeddings",),
    "norm": ("embeddings.LayerNorm",),
}

_BERT_LAYER = {
    "query_key_value": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_output.linear": ("attention.output.dense",),
    "attention_output": ("attention.output.LayerNorm",),
    "intermediate": ("intermediate.dense",),
    "output.linear": ("output.dense",),
    "output": ("output.LayerNorm",),
}

# The first TensorFlow conversions called a norm's weight and bias so.
_OLD_NORM_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

BERT = Family(
    name="bert",
    prefix="bert.",
    settings=_BERT_SETTINGS,
    defaults=_BERT_DEFAULTS,
    embeddings=_BERT_EMBEDDINGS,
    layer=_BERT_LAYER,
    layer_prefix="encoder.layer.{}.",
    pooler={"dense": ("pooler.dense",)},
    head_prefixes=("cls.", "classifier.", "qa_outputs."),
    renamed=_OLD_NORM_NAMES,
)

ROBERTA = Family(
    name="roberta",
    prefix="roberta.",
    settings=_BERT_SETTINGS,
    defaults={**_BERT_DEFAULTS, "vocab_size": 50265, "pad_token_id": 1},
    embeddings=_BERT_EMBEDDINGS,
    layer=_BERT_LAYER,
    layer_prefix="encoder.layer.{}.",
    pooler={"dense": ("pooler.dense",)},
    head_prefixes=("lm_head.", "classifier.", "qa_outputs."),
    renamed=_OLD_NORM_NAMES,
    positions_skip_padding=True,
)

FAMILIES = {family.name: family for family in (BERT, ROBERTA)}
