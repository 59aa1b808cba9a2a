"""Describe NomicBERT, by the settings of its authors' own code and by those of transformers 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertstream.workers.compile.checkpoints.families.bert import ANSWERS, MASKED, POOLED_TEXTS, POOLER, TOKENS
from bertstream.workers.compile.checkpoints.families.family import Family, Head
from bertstream.workers.compile.checkpoints.families.rotary import dynamic, flag, longest, positive, read_rotary
from bertstream.workers.compile.checkpoints.tokenizer_classes import BERT_TOKENIZER
from bertstream.workers.compile.sources.bounds import is_count, shown
from bertstream.workers.models.rotary import Rotary
from bertstream.workers.models.rotary_bert import RotaryBertShape

# Their own code's names -> those of transformers 5, which newer checkpoints have beside them.
_OWN_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "layer_norm_epsilon": "layer_norm_eps",
}
_GATES = {"swiglu": "silu", "geglu": "gelu"}  # activation_function -> the activation in the unit
# What their own code could do besides: key -> the values that change nothing.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "prenorm": (False,),
    "parallel_block": (False,),
    "causal": (False,),
    "use_rms_norm": (False, None),
    "rotary_emb_fraction": (1.0,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (None,),
    "moe_every_n_layers": (0, None),
}


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    for key, harmless in _HARMLESS.items():
        if key in values and values[key] not in harmless:
            raise ValueError(f"{key} = {shown(values[key])} is not supported")
    found = {**values, **{theirs: values[own] for own, theirs in _OWN_NAMES.items() if values.get(own) is not None}}
    gate = values.get("activation_function")
    if gate is not None:
        if gate not in _GATES:
            raise ValueError(f"activation_function {shown(gate)} is not supported; these are: {', '.join(_GATES)}")
        found["hidden_act"] = _GATES[gate]
    _check_head_size(found)
    found["rotary"] = rotary = _rotary(values)
    biases = {key: flag(values, key) for key in ("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias")}
    return {**found, **biases, "positions": _positions(values, rotary)}


def _check_head_size(values: Mapping[str, Any]) -> None:
    size, heads, hidden = (values.get(key) for key in ("head_dim", "num_attention_heads", "hidden_size"))
    if size is not None and is_count(heads) and is_count(hidden) and (not is_count(size) or size * heads != hidden):
        raise ValueError(f"head_dim {shown(size)} must be hidden_size {hidden} / num_attention_heads {heads}")


def _rotary(values: Mapping[str, Any]) -> Rotary:
    theta, trained = values["rotary_emb_base"], values["max_position_embeddings"]
    own = values.get("rotary_scaling_factor")
    if own is not None:
        theta, trained = positive(theta, "rotary_emb_base"), values.get("max_trained_positions", trained)
        return dynamic(theta, own, "rotary_scaling_factor", trained)
    scaling = values.get("rope_parameters") or values.get("rope_scaling")
    return read_rotary(scaling, "rope_parameters", theta, trained)


def _positions(values: Mapping[str, Any], rotary: Rotary) -> Any:
    """Return the tokens of the longest text."""
    return values.get("n_positions") or longest(rotary, values["max_position_embeddings"])


_HEADS = (
    Head(
        "fill_mask",
        (*MASKED, "ForPreTraining"),
        {"dense": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.layer_norm"},
        kind="vocabulary",
        vocabulary_matrix="cls.predictions.decoder.weight",
        vocabulary_biases=("cls.predictions.decoder.bias", "cls.predictions.bias"),
        by_weights=True,
        activation="silu",
        activation_setting="hidden_act",
        optional={"dense.bias": "mlp_fc1_bias", "bias": "mlp_fc1_bias"},
    ),
    POOLED_TEXTS,
    TOKENS,
    ANSWERS,
)

NOMIC_BERT = Family(
    name="nomic_bert",
    prefix="nomic_bert.",
    other_prefixes=("bert.",),  # of their own code
    shape=RotaryBertShape,
    settings={
        "vocabulary_size": "vocab_size",
        "hidden_size": "hidden_size",
        "layers": "num_hidden_layers",
        "attention_heads": "num_attention_heads",
        "intermediate_size": "intermediate_size",
        "positions": "positions",
        "type_vocabulary_size": "type_vocab_size",
        "activation": "hidden_act",
        "layer_norm_eps": "layer_norm_eps",
        "rotary": "rotary",
        "query_key_value_bias": "qkv_proj_bias",
        "attention_output_bias": "qkv_proj_bias",
        "gate_bias": "mlp_fc1_bias",
        "output_bias": "mlp_fc2_bias",
    },
    defaults={
        "vocab_size": 30528,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 2048,
        "type_vocab_size": 2,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-12,
        "rotary_emb_base": 1000.0,
        "qkv_proj_bias": False,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
    },
    read=_read,
    own_code=("modeling_hf_nomic_bert.NomicBert",),
    modules={
        "embeddings.word": ("embeddings.word_embeddings",),
        "embeddings.token_type": ("embeddings.token_type_embeddings",),
        "embeddings.norm": ("emb_ln",),
        **POOLER,
    },
    layer={
        "query_key_value": ("attn.Wqkv",),
        "attention_output.linear": ("attn.out_proj",),
        "attention_output": ("norm1",),
        "gated.up": ("mlp.fc11",),
        "gated.gate": ("mlp.fc12",),
        "output.linear": ("mlp.fc2",),
        "output": ("norm2",),
    },
    layer_prefix="encoder.layers.{}.",
    heads=_HEADS,
    head_prefixes=("cls.", "classifier.", "qa_outputs."),
    tokenizer_class="BertTokenizer",
    tokenizer=BERT_TOKENIZER,
)
