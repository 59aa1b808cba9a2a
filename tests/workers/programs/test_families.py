"""Test every family's program against transformers: each hidden state, each attention and the pooler, all packed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bertstream.workers.compile.checkpoints import CheckpointError, read_config, read_weights, weight_files
from bertstream.workers.compile.checkpoints.weights import convert_weights
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.models import encoder_weight_shapes
from bertstream.workers.programs.description import ModelDescription
from tests.support.checkpoints import (
    TEXTS,
    edit_json,
    tiny_camembert,
    tiny_distilbert,
    tiny_electra,
    tiny_gte,
    tiny_modernbert,
    tiny_mpnet,
    tiny_nomic_bert,
    tiny_roberta,
    tiny_xlm_roberta,
)
from tests.support.pairs import EXACT, Pair, difference, sizes

Make = Callable[..., Pair]

FAMILIES = (
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet"),
    *("modernbert", "nomic_bert", "gte", "deberta-v2", "albert"),
)
INPUTS = (*TEXTS, ("a fox", "the dog sleeps in the sun"), ("Größere Straßen", ""))
POOLED = ("bert", "roberta", "xlm-roberta", "camembert", "mpnet", "albert")
TYPES = {  # 1 for all others
    **dict.fromkeys(("bert", "electra", "nomic_bert", "albert"), 2),
    **dict.fromkeys(("distilbert", "mpnet", "modernbert", "deberta-v2"), 0),
}


def cosine(got: Tensor, want: Tensor) -> float:
    """Return the smallest cosine of any token."""
    assert got.shape == want.shape
    return float(torch.cosine_similarity(got.double(), want.double(), dim=-1).min())


@pytest.mark.parametrize("name", FAMILIES)
def test_float32_is_exact(pair: Make, name: str) -> None:
    both = pair(name)
    ids, types = both.encode(INPUTS)
    found = both.forward(ids, types, list(range(both.layers + 1)), both.everything(len(ids)))
    states = [layer.split(sizes(ids)) for layer in found.states]
    for i, (text, kinds) in enumerate(zip(ids, types, strict=True)):
        want = both.output(text, kinds)
        for got, state in zip(states, want.hidden_states, strict=True):
            assert difference(got[i], state[0]) <= EXACT
        for weights, attention in zip(found.weights, want.attentions, strict=True):
            assert difference(weights[i], attention[0]) <= EXACT
        if name in POOLED:
            assert difference(both.program.pooler(states[-1][i][:1]), want.pooler_output) <= EXACT


@pytest.mark.parametrize(("dtype", "near"), [("bfloat16", 0.99), ("float16", 0.9999)])
@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_is_close(pair: Make, name: str, dtype: str, near: float) -> None:
    both = pair(name, dtype)
    ids, types = both.encode(INPUTS)
    found = both.forward(ids, types, list(range(both.layers + 1)), both.everything(len(ids)))
    states = [layer.split(sizes(ids)) for layer in found.states]
    for i, (text, kinds) in enumerate(zip(ids, types, strict=True)):
        want = both.output(text, kinds)
        for got, state in zip(states, want.hidden_states, strict=True):
            assert cosine(got[i], state[0]) >= near
        for weights, attention in zip(found.weights, want.attentions, strict=True):
            assert weights[i].dtype == torch.float32
            assert cosine(weights[i], attention[0]) >= near
        if name in POOLED:
            assert cosine(both.program.pooler(states[-1][i][:1]), want.pooler_output) >= near


@pytest.mark.parametrize("name", FAMILIES)
def test_the_description_knows_the_family(checkpoint: Callable[[str], Path], compile_cache: Path, name: str) -> None:
    found = ModelDescription.load(compile_model(checkpoint(name), cache=compile_cache))
    assert (found.family, found.max_tokens, found.has_pooler) == (name, 512, name in POOLED)
    assert found.type_vocabulary_size == TYPES.get(name, 1)
    assert {"cls", "sep", "pad", "mask", "unk"} <= found.special_tokens.keys()


HEADS: list[tuple[Callable[..., Path], str]] = [
    *((tiny_roberta, f"Roberta{head}") for head in ("ForMaskedLM", "ForQuestionAnswering", "ForTokenClassification")),
    *((tiny_xlm_roberta, f"XLMRoberta{head}") for head in ("ForMaskedLM", "ForSequenceClassification")),
    *((tiny_camembert, f"Camembert{head}") for head in ("ForMaskedLM", "ForTokenClassification")),
    *(
        (tiny_distilbert, f"DistilBert{head}")
        for head in ("ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering", "ForTokenClassification")
    ),
    *(
        (tiny_electra, f"Electra{head}")
        for head in ("ForPreTraining", "ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering")
    ),
    *((tiny_electra, f"Electra{head}") for head in ("ForTokenClassification", "ForMultipleChoice")),
    *((tiny_mpnet, f"MPNet{head}") for head in ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")),
    *((tiny_modernbert, f"ModernBert{head}") for head in ("ForMaskedLM", "ForSequenceClassification")),
    *((tiny_nomic_bert, f"NomicBert{head}") for head in ("ForMaskedLM", "ForTokenClassification")),
    *((tiny_gte, f"Gte{head}") for head in ("ForMaskedLM", "ForTokenClassification")),
]


@pytest.mark.parametrize(("maker", "architecture"), HEADS, ids=lambda value: value if isinstance(value, str) else "")
def test_encoders_of_checkpoints_with_heads_are_whole(
    maker: Callable[..., Path], architecture: str, tmp_path: Path
) -> None:
    directory = maker(tmp_path / "checkpoint", architecture=architecture, num_hidden_layers=1)
    config = read_config(directory)
    assert config.architecture == architecture
    found = convert_weights(
        read_weights(weight_files(directory), lambda done, total: None), config.family, config.shape
    )
    assert found.keys() == encoder_weight_shapes(config.shape).keys()


def test_electra_without_a_projection(tmp_path: Path, compile_cache: Path) -> None:
    both = Pair(tiny_electra(tmp_path / "wide", embedding_size=36), compile_cache)
    ids, types = both.encode(INPUTS[:3])
    states = both.run(ids, types, [0, both.layers])
    for i, (text, kinds) in enumerate(zip(ids, types, strict=True)):
        want = both.expected(text, kinds)
        assert difference(states[0].split(sizes(ids))[i], want[0]) <= EXACT
        assert difference(states[1].split(sizes(ids))[i], want[-1]) <= EXACT


@pytest.mark.parametrize("name", ["xlm-roberta", "camembert"])
def test_pad_ids_within_a_text_take_roberta_s_positions(pair: Make, name: str) -> None:
    both = pair(name)
    pad = both.model.config.pad_token_id
    ids = [[0, 40, 41, 2], [0, pad, 40, pad, 41, 42], [pad, pad], [40], [0, 40, pad]]
    (states,) = both.run(ids, None, [both.layers])
    assert difference(states, torch.cat([both.expected(text)[-1] for text in ids])) <= EXACT


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("distilbert", {"n_heads": 5}, "dim 36 is not a multiple of n_heads 5"),
        ("distilbert", {"n_layers": 0}, "n_layers must be a whole number from 1 to 1,024, not 0"),
        ("distilbert", {"activation": "mish"}, "activation 'mish' is not supported"),
        ("electra", {"embedding_size": -1}, "embedding_size must be a whole number from 1 to 65,536, not -1"),
        ("distilbert", {"is_decoder": True}, "distilbert has no decoders"),
        ("camembert", {"pad_token_id": None, "model_type": "flaubert"}, "model_type 'flaubert' is not supported"),
    ],
)
def test_a_family_s_own_words_are_used(
    checkpoint: Callable[[str], Path], tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    directory = Path(shutil.copytree(checkpoint(name), tmp_path / name))
    edit_json(directory / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        read_config(directory)


def test_distilbert_s_epsilon_is_not_the_config_s(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    directory = Path(shutil.copytree(checkpoint("distilbert"), tmp_path / "copy"))
    edit_json(directory / "config.json", layer_norm_eps=0.5)
    assert read_config(directory).shape.layer_norm_eps == 1e-12
