"""Test what is ModernBERT's alone: global and local layers, optional biases, pooled heads, and its settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bertstream.workers import native
from bertstream.workers.compile.checkpoints import CheckpointError, read_config
from bertstream.workers.models.modernbert import ModernBertShape
from bertstream.workers.models.rotary import Rotary
from tests.support.checkpoints import TEXTS, edit_json, sentence_files, tiny_modernbert, write_json
from tests.support.head_pairs import HeadPair
from tests.support.pairs import EXACT, Pair, difference, sizes
from tests.support.reference import sentence_vectors, worst

Checkpoint = Callable[[str], Path]
FULL, SLIDING = "full_attention", "sliding_attention"


def check(both: Pair) -> None:
    ids, _ = both.encode(TEXTS)
    found = both.forward(ids, None, list(range(both.layers + 1)), both.everything(len(ids)))
    states = [layer.split(sizes(ids)) for layer in found.states]
    for i, text in enumerate(ids):
        want = both.output(text)
        for got, state in zip(states, want.hidden_states, strict=True):
            assert difference(got[i], state[0]) <= EXACT
        for weights, attention in zip(found.weights, want.attentions, strict=True):
            assert difference(weights[i], attention[0]) <= EXACT


@pytest.mark.parametrize("switch", ["1", "0"])
def test_other_settings_are_exact_with_and_without_operators(
    tmp_path: Path, compile_cache: Path, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    """All biases, a local first layer, a window that ends within a vector, another activation and other angles."""
    monkeypatch.setenv(native.library.SWITCH, switch)
    made = tiny_modernbert(
        tmp_path / "made",
        attention_bias=True,
        mlp_bias=True,
        norm_bias=True,
        hidden_activation="silu",
        local_attention=70,
        layer_types=[SLIDING, FULL, SLIDING, SLIDING],
        rope_parameters={
            FULL: {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0},
            SLIDING: {"rope_type": "default", "rope_theta": 300.0},
        },
    )
    check(Pair(made, compile_cache))


def test_it_is_exact_without_operators(
    checkpoint: Checkpoint, compile_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.library.SWITCH, "0")
    check(Pair(checkpoint("modernbert"), compile_cache))


def test_steps_through_layers_go_on_with_angles_and_windows(pair: Callable[[str], Pair]) -> None:
    both = pair("modernbert")
    ids, _ = both.encode(TEXTS[:4])
    (whole,) = both.run(ids, None, [both.layers])
    (half,) = both.run(ids, None, [2])
    assert torch.equal(both.program.advance(half, sizes(ids), 2, [both.layers]).states[0], whole)


@pytest.mark.parametrize("config", [{"classifier_bias": True, "norm_bias": True}, {"decoder_bias": False}])
def test_biases_of_heads_are_the_config_s(tmp_path: Path, compile_cache: Path, config: dict[str, Any]) -> None:
    made = tiny_modernbert(tmp_path / "made", architecture="ModernBertForMaskedLM", **config)
    both = HeadPair(made, compile_cache)
    for text, got in zip(TEXTS[:3], both.logits("fill_mask", TEXTS[:3]), strict=True):
        assert difference(got, both.expected("fill_mask", text)) <= EXACT


def test_a_classifier_without_a_vocabulary_is_no_masked_model(tmp_path: Path, compile_cache: Path) -> None:
    """Its dense layer and norm are those that predicting tokens would have."""
    architecture = "ModernBertForSequenceClassification"
    made = tiny_modernbert(tmp_path / "made", architecture=architecture, decoder_bias=False, num_hidden_layers=1)
    assert HeadPair(made, compile_cache).heads == ("sequence_classification",)


def test_a_bias_that_is_promised_and_missing_is_told(
    checkpoint: Checkpoint, tmp_path: Path, compile_cache: Path
) -> None:
    directory = Path(shutil.copytree(checkpoint("modernbert-mlm"), tmp_path / "copy"))
    edit_json(directory / "config.json", classifier_bias=True)
    with pytest.raises(CheckpointError, match=r"lacks weights of its head fill_mask: head.dense.bias"):
        HeadPair(directory, compile_cache)


@pytest.fixture
def changed(checkpoint: Checkpoint, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a checkpoint with these values in config.json."""

    def change(**values: Any) -> Path:
        directory = Path(shutil.copytree(checkpoint("modernbert-mean"), tmp_path / "copy"))
        edit_json(directory / "config.json", **values)
        return directory

    return change


def shape(directory: Path) -> ModernBertShape:
    found = read_config(directory).shape
    assert isinstance(found, ModernBertShape)
    return found


def test_settings_of_release_4_mean_the_same(changed: Callable[..., Path]) -> None:
    old = {"global_attn_every_n_layers": 2, "global_rope_theta": 1000.0, "local_rope_theta": 10.0}
    directory = changed(layer_types=None, rope_parameters=None, **old, local_attention=128)
    found = shape(directory)
    assert found.local_layers == (False, True, False, True)
    assert (found.global_rotary, found.local_rotary, found.window) == (Rotary(1000.0), Rotary(10.0), 64)
    write_json(
        directory / "config.json", json.loads((directory / "config.json").read_text()) | {"local_rope_theta": None}
    )
    assert shape(directory).local_rotary == Rotary(1000.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer_types": [FULL]}, "layer_types must name 4 layers, each full_attention or sliding_attention"),
        ({"layer_types": [FULL] * 3 + ["chunked"]}, "layer_types must name 4 layers"),
        ({"layer_types": None, "global_attn_every_n_layers": 0}, "global_attn_every_n_layers must be a whole number"),
        ({"local_attention": -1}, "local_attention must be a number of tokens, not -1"),
        ({"norm_bias": 1}, "norm_bias must be true or false, not 1"),
        ({"rope_parameters": [1]}, r"rope_parameters must be a table, not \[1\]"),
        (
            {"rope_parameters": {FULL: {"rope_type": "yarn"}}},
            "rope_parameters full_attention: rope_type 'yarn' is not supported; these are: default, linear, dynamic",
        ),
        (
            {"rope_parameters": {SLIDING: {"rope_theta": 0}}},
            "rope_parameters sliding_attention: rope_theta must be a number above 0, not 0",
        ),
        ({"hidden_size": 39}, "rotary positions need heads of an even size, and config.json says 39 in 3 heads"),
        ({"num_hidden_layers": "x", "layer_types": None}, "num_hidden_layers must be a whole number"),
        ({"classifier_pooling": "max"}, "classifier_pooling must be cls or mean, not 'max'"),
        ({"is_decoder": True}, "modernbert has no decoders"),
        ({"hidden_activation": "mish"}, "hidden_activation 'mish' is not supported"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(
    changed: Callable[..., Path], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_config(changed(**values))


def test_a_folder_of_sentence_transformers(checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(checkpoint("modernbert"), tmp_path / "embed-tiny"))
    sentence_files(directory, pooling={"word_embedding_dimension": 36, "pooling_mode_cls_token": True})
    both = Pair(directory, compile_cache)
    its = both.program.description
    assert (its.default_pooling.mode, its.default_pooling.normalize, its.warnings) == ("cls", True, ())
    ids, _ = both.encode(TEXTS[:7])
    (states,) = both.run(ids, None, [both.layers])
    found = torch.nn.functional.normalize(both.program.pool(states, sizes(ids), "cls"), dim=1)
    assert worst(found.numpy(), torch.from_numpy(sentence_vectors(directory, list(TEXTS[:7])))) <= EXACT
