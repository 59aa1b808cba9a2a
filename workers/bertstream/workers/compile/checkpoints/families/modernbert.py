"""Describe ModernBERT, with the settings of transformers 4 and 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertstream.workers.compile.checkpoints.families.family import Family, Head
from bertstream.workers.compile.checkpoints.families.rotary import flag, read_rotary
from bertstream.workers.compile.checkpoints.tokenizer_classes import BERT_TOKENIZER, TokenizerClass
from bertstream.workers.compile.sources.bounds import is_count, shown
from bertstream.workers.models.modernbert import ModernBertShape

_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
_KINDS = (_GLOBAL, _LOCAL)
_HEAD = {"dense": "head.dense", "norm": "head.norm"}
_CLASSIFIER = _HEAD | {"output": "classifier"}
_OPTIONAL = {"dense.bias": "classifier_bias", "norm.bias": "norm_bias"}


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    found = _of_each_kind(values)
    window = values["local_attention"]
    if not is_count(window):
        raise ValueError(f"local_attention must be a number of tokens, not {shown(window)}")
    biases = {key: flag(values, key) for key in ("attention_bias", "mlp_bias", "norm_bias")}
    return {**values, **biases, **found, "window": window // 2, "local_layers": _local_layers(values)}


def _of_each_kind(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the angles of global and local layers, which release 5 writes into a table, and 4 beside each other."""
    table = values.get("rope_parameters") or {}
    if not isinstance(table, Mapping):
        raise ValueError(f"rope_parameters must be a table, not {shown(table)}")
    thetas = values["global_rope_theta"], values["local_rope_theta"] or values["global_rope_theta"]
    scaling = values.get("rope_scaling")
    return {
        name: read_rotary(_with(scaling, table.get(kind)), f"rope_parameters {kind}", theta)
        for name, kind, theta in zip(("global_rotary", "local_rotary"), _KINDS, thetas, strict=True)
    }


def _with(scaling: object, settings: object) -> object:
    """Return a kind's table, of which rope_scaling is a part in release 4."""
    if not isinstance(scaling, Mapping):
        return settings if scaling is None else scaling
    return {**settings, **scaling} if isinstance(settings, Mapping) else scaling


def _local_layers(values: Mapping[str, Any]) -> tuple[bool, ...]:
    """Return which layers are local: those that layer_types says, or else all but every third, or so manieth."""
    layers, every, kinds = values["num_hidden_layers"], values["global_attn_every_n_layers"], values.get("layer_types")
    if kinds is None:
        if not is_count(every) or not every:
            raise ValueError(f"global_attn_every_n_layers must be a whole number from 1 on, not {shown(every)}")
        # A number that is none is refused by its name later.
        return tuple(bool(layer % every) for layer in range(min(layers, 1 << 10) if is_count(layers) else 0))
    if not isinstance(kinds, list) or len(kinds) != layers or not all(kind in _KINDS for kind in kinds):
        raise ValueError(f"layer_types must name {layers} layers, each {_GLOBAL} or {_LOCAL}, not {shown(kinds)}")
    return tuple(kind == _LOCAL for kind in kinds)


def _classifier(name: str, ending: str, *, outputs: int = 0, pooling_setting: str = "") -> Head:
    return Head(
        name,
        (ending,),
        _CLASSIFIER,
        outputs=outputs,
        activation="gelu",
        activation_setting="classifier_activation",
        optional=_OPTIONAL,
        pooling_setting=pooling_setting,
    )


_HEADS = (
    Head(
        "fill_mask",
        ("ForMaskedLM",),
        _HEAD,
        kind="vocabulary",
        vocabulary_matrix="decoder.weight",
        vocabulary_biases=("decoder.bias",),
        by_weights=True,
        activation="gelu",
        activation_setting="classifier_activation",
        optional=_OPTIONAL | {"bias": "decoder_bias"},
    ),
    _classifier("sequence_classification", "ForSequenceClassification", pooling_setting="classifier_pooling"),
    _classifier("token_classification", "ForTokenClassification"),
    _classifier("question_answering", "ForQuestionAnswering", outputs=2),
    _classifier("multiple_choice", "ForMultipleChoice", outputs=1, pooling_setting="classifier_pooling"),
)

MODERNBERT = Family(
    name="modernbert",
    prefix="model.",
    shape=ModernBertShape,
    settings={
        "vocabulary_size": "vocab_size",
        "hidden_size": "hidden_size",
        "layers": "num_hidden_layers",
        "attention_heads": "num_attention_heads",
        "intermediate_size": "intermediate_size",
        "positions": "max_position_embeddings",
        "activation": "hidden_activation",
        "layer_norm_eps": "norm_eps",
        **{key: key for key in ("window", "local_layers", "global_rotary", "local_rotary")},
        **{key: key for key in ("attention_bias", "mlp_bias", "norm_bias")},
    },
    defaults={
        "vocab_size": 50368,
        "hidden_size": 768,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "intermediate_size": 1152,
        "max_position_embeddings": 8192,
        "hidden_activation": "gelu",
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160_000.0,
        "local_rope_theta": 10_000.0,
        "classifier_pooling": "cls",
        "classifier_bias": False,
        "classifier_activation": "gelu",
        "decoder_bias": True,
    },
    read=_read,
    modules={
        "embeddings.word": ("embeddings.tok_embeddings",),
        "embeddings.norm": ("embeddings.norm",),
        "final_norm": ("final_norm",),
    },
    layer={
        "attention_norm": ("attn_norm",),
        "query_key_value": ("attn.Wqkv",),
        "attention_output": ("attn.Wo",),
        "norm": ("mlp_norm",),
        "gated.gate": ("mlp.Wi",),
        "gated.up": ("mlp.Wi",),
        "output": ("mlp.Wo",),
    },
    halves={"gated.gate": 0, "gated.up": 1},
    layer_prefix="layers.{}.",
    heads=_HEADS,
    head_prefixes=("head.", "decoder.", "classifier."),
    tokenizer_class="PreTrainedTokenizer",
    tokenizer=TokenizerClass(tokens=BERT_TOKENIZER.tokens),
)
