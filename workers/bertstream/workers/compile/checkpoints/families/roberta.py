"""Describe RoBERTa, and the same model with other vocabularies."""

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
    POOLED_TEXTS,
    POOLER,
    SETTINGS,
    TOKENS,
)
from bertstream.workers.compile.checkpoints.families.family import Family, Head, and_causal
from bertstream.workers.compile.checkpoints.tokenizer_classes import (
    CAMEMBERT_TOKENIZER,
    ROBERTA_TOKENIZER,
    XLM_ROBERTA_TOKENIZER,
)

# RoBERTa has two layers of its own in place of BERT's pooler and output layer.
TEXTS = replace(
    POOLED_TEXTS,
    modules={"dense": "classifier.dense", "output": "classifier.out_proj"},
    reads_pooler=False,
    activation="tanh",
)

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

ROBERTA = Family(
    name="roberta",
    prefix="roberta.",
    settings={**SETTINGS, "pad_token_id": "pad_token_id"},
    defaults={**DEFAULTS, "vocab_size": 50265, "pad_token_id": 1},
    modules={**EMBEDDINGS, **POOLER},
    fixed={"positions_skip_padding": True},
    layer=LAYER,
    cross_attention=CROSS_ATTENTION,
    layer_prefix="encoder.layer.{}.",
    heads=and_causal(_HEADS),
    head_prefixes=("lm_head.", "classifier.", "qa_outputs."),
    renamed=OLD_NORM_NAMES,
    tokenizer_class="RobertaTokenizer",
    tokenizer=ROBERTA_TOKENIZER,
)

# The prefix "roberta." stands before their weights too.
XLM_ROBERTA = replace(
    ROBERTA,
    name="xlm-roberta",
    defaults={**DEFAULTS, "pad_token_id": 1},
    tokenizer_class="XLMRobertaTokenizer",
    tokenizer=XLM_ROBERTA_TOKENIZER,
    sentencepiece="sentencepiece.bpe.model",
)
CAMEMBERT = replace(XLM_ROBERTA, name="camembert", tokenizer_class="CamembertTokenizer", tokenizer=CAMEMBERT_TOKENIZER)
