"""What a GLiNER checkpoint says of its head, of its encoder and of the tokens before labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bertstream.workers.compile import checkpoints
from bertstream.workers.compile.checkpoints import CheckpointError, GlinerParts, TokenizerSettings
from bertstream.workers.compile.revisions import revision_of
from tests.support.checkpoints import edit_json
from tests.support.gliner import naming_its_encoder

Checkpoint = Callable[[str], Path]


@pytest.fixture
def copied(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """Return a copy, which may be changed, of the checkpoint on BERT."""
    return Path(shutil.copytree(checkpoint("gliner-bert"), tmp_path / "copied"))


@pytest.mark.parametrize(
    "changed",
    [
        {"labels_encoder": "org/labels"},
        {"labels_decoder": "gpt2"},
        {"relations_layer": "dot"},
        {"span_mode": "token_level"},
        {"span_mode": "conv_share"},
        {"subtoken_pooling": "mean"},
        {"words_splitter_type": "spacy"},
        {"post_fusion_schema": "l2t"},
        {"fuse_layers": True},
        {"span_encoder_config": {"model_type": "rnn"}},
        {"precomputed_prompts_mode": True},
    ],
)
def test_other_kinds_are_refused_by_name(copied: Path, changed: dict[str, Any]) -> None:
    edit_json(copied / "gliner_config.json", **changed)
    ((key, _),) = changed.items()
    with pytest.raises(
        CheckpointError, match=rf"gliner_config.json: {key} = .* is not supported; these are: models of"
    ):
        checkpoints.read_gliner(copied)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_width": 0}, "max_width must be a whole number from 1 to 256, not 0"),
        ({"max_len": "all"}, "max_len must be a whole number"),
        ({"hidden_size": -1}, "hidden_size must be a whole number"),
        ({"num_rnn_layers": 1, "hidden_size": 21}, "num_rnn_layers must be 0 to 16, and 0 for an odd hidden_size"),
        ({"ent_token": " "}, "ent_token must be a token, not ' '"),
    ],
)
def test_settings_that_cannot_be(copied: Path, changed: dict[str, Any], message: str) -> None:
    edit_json(copied / "gliner_config.json", **changed)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read_gliner(copied)


def test_a_checkpoint_of_another_kind_has_no_such_head(checkpoint: Checkpoint) -> None:
    assert checkpoints.read_gliner(checkpoint("bert")) is None


def parts_of(directory: Path, weights: dict[str, Tensor]) -> GlinerParts:
    settings = checkpoints.read_gliner(directory)
    assert settings is not None
    return checkpoints.take_apart(weights, settings, checkpoints.read_config(directory).shape)


def test_weights_that_lack_or_do_not_fit_are_named(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    assert len(parts_of(copied, weights).heads.shapes) == 1
    name = "prompt_rep_layer.3.bias"
    with pytest.raises(CheckpointError, match=rf"lacks weights of its head: {name}$"):
        parts_of(copied, {key: each for key, each in weights.items() if key != name})
    with pytest.raises(CheckpointError, match=r"has unknown weights of its head: cross_fuser\.q"):
        parts_of(copied, {**weights, "cross_fuser.q": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=rf"weight {name} is \[3\], which does not fit hidden_size 36"):
        parts_of(copied, {**weights, name: torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"span_rep_layer\.out_project\.0\.weight is .* does not fit hidden_size"):
        parts_of(copied, {**weights, "span_rep_layer.span_rep_layer.out_project.0.weight": torch.zeros(144)})


def tokenizer_of(directory: Path) -> TokenizerSettings:
    return checkpoints.read_tokenizer(
        checkpoints.tokenizer_folder(directory), checkpoints.read_config(directory).family
    )


def test_marks_are_added_where_the_tokenizer_has_none(checkpoint: Checkpoint) -> None:
    for name in ("gliner", "gliner-bert"):
        directory = checkpoint(name)
        settings, own = checkpoints.read_gliner(directory), tokenizer_of(directory)
        assert settings is not None
        marked = checkpoints.with_marks(own, settings, 1 << 20)
        ids = checkpoints.token_ids(marked.definition)
        assert [ids[each] for each in ("[FLERT]", "<<ENT>>", "<<SEP>>")] == list(range(len(ids) - 3, len(ids)))
        assert marked.highest_id == len(ids) - 1
        assert (marked is own) == (name == "gliner-bert")
        with pytest.raises(CheckpointError, match=rf"the tokenizer's <<ENT>> is {len(ids) - 2}, and class_token_index"):
            checkpoints.with_marks(own, settings, len(ids) - 2)


def test_a_mark_that_is_not_that_of_the_settings(copied: Path) -> None:
    edit_json(copied / "gliner_config.json", class_token_index=7)
    settings = checkpoints.read_gliner(copied)
    assert settings is not None
    with pytest.raises(CheckpointError, match=r"<<ENT>> is .*, and class_token_index is 7"):
        checkpoints.with_marks(tokenizer_of(copied), settings, 1 << 20)


@pytest.mark.parametrize("name", ["gliner", "gliner-bert"])
def test_an_encoder_that_is_only_named_is_taken_from_the_hub(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole, hub = checkpoint(name), tmp_path / "hub"
    shutil.copytree(whole, hub, ignore=shutil.ignore_patterns("gliner_config.json", "*.safetensors", "*.bin"))
    encoder = encoder_of(whole)
    (hub / "config.json").write_text(json.dumps(encoder))
    asked: list[tuple[str, list[str]]] = []

    def snapshot(model: str, allow_patterns: list[str]) -> str:
        asked.append((model, allow_patterns))
        return str(hub)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    bare = naming_its_encoder(tmp_path / "bare", whole, "org/encoder")
    assert checkpoints.resolve(bare) == bare
    ours, theirs = checkpoints.read_config(bare), checkpoints.read_config(whole)
    assert (ours.shape, ours.architecture) == (theirs.shape, "GLiNER")
    assert tokenizer_of(bare).definition == tokenizer_of(whole).definition
    before = revision_of(bare, "2.0", "here", lambda step, done, total: None)
    (hub / "config.json").write_text(json.dumps({**encoder, "hidden_act": "relu"}))
    assert revision_of(bare, "2.0", "here", lambda step, done, total: None) != before
    assert {model for model, _ in asked} == {"org/encoder"}
    assert not any(
        "bin" in pattern or "safetensors" in pattern or pattern == "*" for _, each in asked for pattern in each
    )
    asked.clear()
    shutil.copytree(hub, bare, dirs_exist_ok=True)
    assert checkpoints.read_config(bare).architecture == "GLiNER"
    assert tokenizer_of(bare).definition == tokenizer_of(whole).definition
    assert not asked


def test_an_encoder_named_by_a_path_is_not_looked_for(checkpoint: Checkpoint, tmp_path: Path) -> None:
    bare = naming_its_encoder(tmp_path / "bare", checkpoint("gliner-bert"), "/home/someone/models/bert")
    for read in (checkpoints.read_config, checkpoints.tokenizer_folder):
        with pytest.raises(
            CheckpointError, match=r"names no model on the hub to take it from .* put the encoder's files"
        ):
            read(bare)


def test_settings_of_the_encoder_that_are_none(copied: Path) -> None:
    edit_json(copied / "gliner_config.json", encoder_config=[1])
    with pytest.raises(CheckpointError, match=r"gliner_config.json: encoder_config must be the configuration"):
        checkpoints.read_config(copied)
    edit_json(copied / "gliner_config.json", encoder_config={"model_type": "t5"})
    with pytest.raises(CheckpointError, match=r"gliner_config.json: model_type 't5' is not supported"):
        checkpoints.read_config(copied)


def test_an_encoder_has_as_many_ids_as_embeddings(copied: Path) -> None:
    weights, name = load_file(copied / "model.safetensors"), "embeddings.word_embeddings.weight"
    edit_json(copied / "gliner_config.json", encoder_config={**encoder_of(copied), "vocab_size": 7})
    parts = parts_of(copied, weights)
    assert parts.shape.vocabulary_size == len(parts.encoder[name]) > 7
    assert "embeddings.LayerNorm.weight" in parts.encoder


def encoder_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "gliner_config.json").read_text())["encoder_config"]
    return found


def test_an_encoder_that_the_hub_has_not(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot(model: str, allow_patterns: list[str]) -> str:
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    bare = naming_its_encoder(tmp_path / "bare", checkpoint("gliner-bert"), "org/encoder")
    with pytest.raises(CheckpointError, match=r"has no config\.json of its encoder, org/encoder: .*offline"):
        checkpoints.read_config(bare)
