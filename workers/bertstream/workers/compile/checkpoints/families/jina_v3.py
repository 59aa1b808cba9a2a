"""Describe Jina's third embedding models, XLM-RoBERTa's layers with rotary positions, and adapters for several tasks.

"jina_embeddings_v3" in transformers 5, which saves them by their authors' names; theirs call themselves an XLM-RoBERTa,
and bring code of their own (https://huggingface.co/jinaai/xlm-roberta-flash-implementation), which is not run here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bertstream.workers.compile.checkpoints.families.bert import DEFAULTS, POOLER, SETTINGS
from bertstream.workers.compile.checkpoints.families.family import Family
from bertstream.workers.compile.checkpoints.families.roberta import XLM_ROBERTA
from bertstream.workers.compile.checkpoints.families.rotary import longest, read_rotary
from bertstream.workers.models.rotary_bert import RotaryBertShape


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    positions = values["max_position_embeddings"]
    rotary = read_rotary(values.get("rope_parameters"), "rope_parameters", values["rotary_emb_base"], positions)
    return {**values, "rotary": rotary, "positions": longest(rotary, positions)}


JINA_V3 = Family(
    name="jina_embeddings_v3",
    prefix="roberta.",
    shape=RotaryBertShape,
    settings={**SETTINGS, "positions": "positions", "rotary": "rotary"},
    defaults={
        **DEFAULTS,
        "vocab_size": 250002,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "max_position_embeddings": 8194,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "rotary_emb_base": 20_000.0,
    },
    fixed={
        "gated": False,
        **dict.fromkeys(("query_key_value_bias", "attention_output_bias", "gate_bias", "output_bias"), True),
    },
    read=_read,
    modules={
        "embeddings.word": ("embeddings.word_embeddings",),
        "embeddings.token_type": ("embeddings.token_type_embeddings",),
        "embeddings.norm": ("emb_ln",),
        **POOLER,
    },
    layer={
        "query_key_value": ("mixer.Wqkv",),
        "attention_output.linear": ("mixer.out_proj",),
        "attention_output": ("norm1",),
        "feed_forward.intermediate": ("mlp.fc1",),
        "feed_forward.output.linear": ("mlp.fc2",),
        "feed_forward.output": ("norm2",),
    },
    layer_prefix="encoder.layers.{}.",
    heads=tuple(head for head in XLM_ROBERTA.heads if head.name not in ("causal_lm", "multiple_choice")),
    head_prefixes=XLM_ROBERTA.head_prefixes,
    tokenizer_class=XLM_ROBERTA.tokenizer_class,
    tokenizer=XLM_ROBERTA.tokenizer,
    sentencepiece=XLM_ROBERTA.sentencepiece,
)
JINA_XLM_ROBERTA = replace(
    JINA_V3,
    name="jina-xlm-roberta",
    model_type="xlm-roberta",
    marks={"position_embedding_type": ("rotary",)},
    own_code=("modeling_lora.XLMRobertaLoRA", "modeling_xlm_roberta.XLMRoberta"),
    own_encoders=("custom_st.Transformer",),
    defaults={**JINA_V3.defaults, "rotary_emb_base": 10_000.0},
)
