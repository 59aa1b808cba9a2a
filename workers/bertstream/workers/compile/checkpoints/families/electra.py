"""Describe ELECTRA: BERT's encoder, with embeddings that may be narrower than the layers."""

from __future__ import annotations

from dataclasses import replace

from bertstream.workers.compile.checkpoints.families.bert import (
    ANSWERS,
    CROSS_ATTENTION,
    DEFAULTS,
    EMBEDDINGS,
    LAYER,
    MASKED,
    OLD_NORM_NAMES,
    POOLED_CHOICES,
    SETTINGS,
    TOKENS,
)
from bertstream.workers.compile.checkpoints.families.family import Family, Head, and_causal
from bertstream.workers.compile.checkpoints.families.roberta import TEXTS
from bertstream.workers.compile.checkpoints.tokenizer_classes import BERT_TOKENIZER

_HEADS = (
    Head(
        "fill_mask",
        MASKED,
        {"dense": "generator_predictions.dense", "norm": "generator_predictions.LayerNorm"},
        kind="vocabulary",
        vocabulary_matrix="generator_lm_head.weight",
        vocabulary_biases=("generator_lm_head.bias",),
        by_weights=True,
        activation="gelu",
    ),
    replace(TEXTS, activation="gelu"),
    TOKENS,
    ANSWERS,
    replace(
        POOLED_CHOICES,
        modules={"dense": "sequence_summary.summary", "output": "classifier"},
        reads_pooler=False,
        activation="gelu",
        activation_setting="summary_activation",
        harmless={
            "summary_type": ("first",),
            "summary_use_proj": (True,),
            "summary_proj_to_labels": (False, None),
        },
    ),
)


ELECTRA = Family(
    name="electra",
    prefix="electra.",
    settings={**SETTINGS, "embedding_size": "embedding_size"},
    defaults={
        **DEFAULTS,
        "embedding_size": 128,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    },
    modules={**EMBEDDINGS, "embeddings.projection": ("embeddings_project",)},
    layer=LAYER,
    cross_attention=CROSS_ATTENTION,
    layer_prefix="encoder.layer.{}.",
    heads=and_causal(_HEADS),
    head_prefixes=(
        *("discriminator_predictions.", "generator_predictions.", "generator_lm_head."),
        *("sequence_summary.", "classifier.", "qa_outputs."),
    ),
    renamed=OLD_NORM_NAMES,
    tokenizer_class="ElectraTokenizer",
    tokenizer=BERT_TOKENIZER,
)
