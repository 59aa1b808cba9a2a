"""The model families: what they call their weights and settings. A new family is a new table here.

Source of the names: the checkpoints on the Hugging Face hub, as transformers reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    head_prefixes: tuple[str, ...]  # weights of task heads, which the encoder does without
    # Of a decoder that attends to an encoder, below layer_prefix too; empty where the family has no decoders.
    cross_attention: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pooler: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # empty where the family has none
    projection: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of embeddings narrower than the layers
    fixed: Mapping[str, Any] = field(default_factory=dict)  # our settings that config.json has no say in
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

_BERT_CROSS_ATTENTION = {
    "query": ("crossattention.self.query",),
    "key_value": ("crossattention.self.key", "crossattention.self.value"),
    "output.linear": ("crossattention.output.dense",),
    "output": ("crossattention.output.LayerNorm",),
}

# The first TensorFlow conversions called a norm's weight and bias so.
_OLD_NORM_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

_POOLER = {"dense": ("pooler.dense",)}

BERT = Family(
    name="bert",
    prefix="bert.",
    settings=_BERT_SETTINGS,
    defaults=_BERT_DEFAULTS,
    embeddings=_BERT_EMBEDDINGS,
    layer=_BERT_LAYER,
    cross_attention=_BERT_CROSS_ATTENTION,
    layer_prefix="encoder.layer.{}.",
    pooler=_POOLER,
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
    cross_attention=_BERT_CROSS_ATTENTION,
    layer_prefix="encoder.layer.{}.",
    pooler=_POOLER,
    head_prefixes=("lm_head.", "classifier.", "qa_outputs."),
    renamed=_OLD_NORM_NAMES,
    positions_skip_padding=True,
)

# The same model with other vocabularies, and "roberta." before its weights too.
XLM_ROBERTA = replace(ROBERTA, name="xlm-roberta", defaults={**_BERT_DEFAULTS, "pad_token_id": 1})
CAMEMBERT = replace(XLM_ROBERTA, name="camembert")

DISTILBERT = Family(
    name="distilbert",
    prefix="distilbert.",
    settings={
        "vocabulary_size": "vocab_size",
        "hidden_size": "dim",
        "layers": "n_layers",
        "attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "positions": "max_position_embeddings",
        "activation": "activation",
        "pad_token_id": "pad_token_id",
    },
    defaults={
        "vocab_size": 30522,
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "max_position_embeddings": 512,
        "activation": "gelu",
        "pad_token_id": 0,
    },
    fixed={"layer_norm_eps": 1e-12, "type_vocabulary_size": 0},
    embeddings={name: _BERT_EMBEDDINGS[name] for name in ("word", "position", "norm")},
    layer={
        "query_key_value": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention_output.linear": ("attention.out_lin",),
        "attention_output": ("sa_layer_norm",),
        "intermediate": ("ffn.lin1",),
        "output.linear": ("ffn.lin2",),
        "output": ("output_layer_norm",),
    },
    layer_prefix="transformer.layer.{}.",
    head_prefixes=(
        *("vocab_transform.", "vocab_layer_norm.", "vocab_projector."),
        *("pre_classifier.", "classifier.", "qa_outputs."),
    ),
    renamed=_OLD_NORM_NAMES,
)

ELECTRA = Family(
    name="electra",
    prefix="electra.",
    settings={**_BERT_SETTINGS, "embedding_size": "embedding_size"},
    defaults={
        **_BERT_DEFAULTS,
        "embedding_size": 128,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    },
    embeddings=_BERT_EMBEDDINGS,
    projection={"projection": ("embeddings_project",)},
    layer=_BERT_LAYER,
    cross_attention=_BERT_CROSS_ATTENTION,
    layer_prefix="encoder.layer.{}.",
    head_prefixes=(
        *("discriminator_predictions.", "generator_predictions.", "generator_lm_head."),
        *("sequence_summary.", "classifier.", "qa_outputs."),
    ),
    renamed=_OLD_NORM_NAMES,
)

FAMILIES = {family.name: family for family in (BERT, ROBERTA, XLM_ROBERTA, CAMEMBERT, DISTILBERT, ELECTRA)}
