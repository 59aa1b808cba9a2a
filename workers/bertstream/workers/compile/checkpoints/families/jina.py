"""Describe Jina's BERT of its second embedding models, which calls itself a BERT, and brings code of its own.

Source of the names: https://huggingface.co/jinaai/jina-bert-implementation, whose code is not run here.
"""

from __future__ import annotations

from bertstream.workers.compile.checkpoints.families.bert import BERT, DEFAULTS, EMBEDDINGS, LAYER, POOLER, SETTINGS
from bertstream.workers.compile.checkpoints.families.family import Family
from bertstream.workers.compile.checkpoints.tokenizer_classes import BERT_TOKENIZER
from bertstream.workers.models.jina import JinaShape

JINA_BERT = Family(
    name="jina-bert",
    model_type="bert",
    marks={"position_embedding_type": ("alibi",)},
    own_code=("modeling_bert.JinaBert",),
    prefix="bert.",
    shape=JinaShape,
    settings={**SETTINGS, "feed_forward": "feed_forward_type"},
    defaults={**DEFAULTS, "feed_forward_type": "original"},
    modules={**{ours: theirs for ours, theirs in EMBEDDINGS.items() if ours != "embeddings.position"}, **POOLER},
    layer={
        **LAYER,
        "gated.intermediate.gate": ("mlp.gated_layers",),
        "gated.intermediate.up": ("mlp.gated_layers",),
        "gated.output.linear": ("mlp.wo",),
        "gated.output": ("mlp.layernorm",),
    },
    halves={"gated.intermediate.gate": 0, "gated.intermediate.up": 1},
    layer_prefix="encoder.layer.{}.",
    heads=tuple(head for head in BERT.heads if head.name != "causal_lm"),
    head_prefixes=BERT.head_prefixes,
    tokenizer_class="BertTokenizer",
    tokenizer=BERT_TOKENIZER,
)
