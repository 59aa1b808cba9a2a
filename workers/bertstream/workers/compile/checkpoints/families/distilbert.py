"""Describe DistilBERT, which has fewer layers, no segments, and names of its own."""

from __future__ import annotations

from dataclasses import replace

from bertstream.workers.compile.checkpoints.families.bert import (
    ANSWERS,
    EMBEDDINGS,
    MASKED,
    OLD_NORM_NAMES,
    POOLED_CHOICES,
    TOKENS,
)
from bertstream.workers.compile.checkpoints.families.family import Family, Head
from bertstream.workers.compile.checkpoints.families.roberta import TEXTS
from bertstream.workers.compile.checkpoints.tokenizer_classes import BERT_TOKENIZER

_LAYERS = {"dense": "pre_classifier", "output": "classifier"}

_HEADS = (
    Head(
        "fill_mask",
        MASKED,
        {"dense": "vocab_transform", "norm": "vocab_layer_norm"},
        kind="vocabulary",
        vocabulary_matrix="vocab_projector.weight",
        vocabulary_biases=("vocab_projector.bias",),
        by_weights=True,
        activation_setting="activation",
    ),
    replace(TEXTS, modules=_LAYERS, activation="relu"),
    TOKENS,
    ANSWERS,
    replace(POOLED_CHOICES, modules=_LAYERS, reads_pooler=False, activation="relu"),
)

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
    },
    defaults={
        "vocab_size": 30522,
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "max_position_embeddings": 512,
        "activation": "gelu",
    },
    fixed={"layer_norm_eps": 1e-12, "type_vocabulary_size": 0},
    modules={name: theirs for name, theirs in EMBEDDINGS.items() if name != "embeddings.token_type"},
    layer={
        "query_key_value": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention_output.linear": ("attention.out_lin",),
        "attention_output": ("sa_layer_norm",),
        "feed_forward.intermediate": ("ffn.lin1",),
        "feed_forward.output.linear": ("ffn.lin2",),
        "feed_forward.output": ("output_layer_norm",),
    },
    layer_prefix="transformer.layer.{}.",
    heads=_HEADS,
    head_prefixes=(
        *("vocab_transform.", "vocab_layer_norm.", "vocab_projector."),
        *("pre_classifier.", "classifier.", "qa_outputs."),
    ),
    renamed=OLD_NORM_NAMES,
    tokenizer_class="DistilBertTokenizer",
    tokenizer=BERT_TOKENIZER,
)
