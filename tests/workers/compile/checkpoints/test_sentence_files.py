"""Test defaults from sentence-transformers' files and the tokenizer's, and what is refused of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertstream.workers.compile.checkpoints import (
    CheckpointError,
    SentenceSettings,
    from_hub,
    read_config,
    read_sentence_settings,
    read_tokenizer,
    resolve,
    transformer_folder,
)
from bertstream.workers.compile.checkpoints.families import FAMILIES
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.models import VectorShape
from bertstream.workers.programs.description import DefaultPooling, SparseDefault
from tests.support.checkpoints import edit_json, sentence_files, write_json
from tests.support.sentence import SENTENCE_MAKERS, add_module, in_a_folder, save_pairs, save_sparse

HIDDEN = 36
Checkpoint = Callable[[str], Path]
DENSE = {"in_features": 36, "out_features": 20, "activation_function": "torch.nn.modules.activation.ReLU"}


def read(directory: Path) -> SentenceSettings:
    return read_sentence_settings(directory, HIDDEN)


def test_without_files_mean_and_not_normalized(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.pooling == DefaultPooling(mode="mean", normalize=False)
    assert (found.max_seq_length, found.lowercase, found.prompts, found.warnings) == (0, False, {}, ())


# Pooling


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len"),
        ({"pooling_mode_weightedmean_tokens": True}, "weighted_mean"),
        ({"pooling_mode_lasttoken": True}, "last_token"),
        ({"word_embedding_dimension": 36}, "mean"),
        ({"embedding_dimension": 36, "pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "last_token"),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, "mean_sqrt_len"),
        ({"pooling_mode": "weightedmean", "pooling_mode_cls_token": True}, "weighted_mean"),
    ],
)
def test_old_and_new_pooling_files(tmp_path: Path, config: dict[str, Any], mode: str) -> None:
    found = read(sentence_files(tmp_path, pooling=config))
    assert found.pooling == DefaultPooling(mode=mode, normalize=True)
    assert (found.warnings, found.unsupported) == ((), ())


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({"pooling_mode": ["mean", "cls"]}, ("mean", "cls")),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        (
            {"pooling_mode_lasttoken": True, "pooling_mode_weightedmean_tokens": True, "pooling_mode_max_tokens": True},
            ("max", "weighted_mean", "last_token"),
        ),
    ],
)
def test_several_modes_are_joined_in_sentence_transformers_order(
    tmp_path: Path, config: dict[str, Any], modes: tuple[str, ...]
) -> None:
    found = read(sentence_files(tmp_path, pooling=config))
    width = len(modes) * HIDDEN
    steps_text = (f"{' + '.join(modes)} pooling", "normalize")
    assert found.pooling == DefaultPooling("checkpoint", True, width, width, steps=steps_text)
    assert (found.shape.modes, found.shape.steps) == (modes, ())


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_what_the_installed_sentence_transformers_writes(checkpoint: Checkpoint, tmp_path: Path, mode: str) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    parts = [modules.Transformer(str(checkpoint("bert"))), modules.Pooling(36, mode), modules.Normalize()]
    model = SentenceTransformer(modules=parts, device="cpu", prompts={"query": "find: "}, default_prompt_name="query")
    model.max_seq_length = 77
    model.save(str(tmp_path), create_model_card=False)
    found = read(tmp_path)
    names = {"mean_sqrt_len_tokens": "mean_sqrt_len", "lasttoken": "last_token", "weightedmean": "weighted_mean"}
    assert found.pooling == DefaultPooling(mode=names.get(mode, mode), normalize=True)
    assert (found.prompts["query"], found.default_prompt_name, found.warnings) == ("find: ", "query", ())
    length = found.max_seq_length or read_tokenizer(tmp_path, FAMILIES["bert"]).model_max_length
    assert length == 77


def test_settings_prompts_and_dimensions(tmp_path: Path) -> None:
    found = read(
        sentence_files(
            tmp_path,
            normalize=False,
            pooling={"pooling_mode": "cls"},
            settings={"max_seq_length": 99, "do_lower_case": True},
            prompts={"prompts": {"query": "q: ", "passage": None}, "default_prompt_name": "query", "truncate_dim": 16},
        )
    )
    assert found.pooling == DefaultPooling(mode="cls", normalize=False, dimensions=16)
    assert (found.max_seq_length, found.lowercase, found.warnings) == (99, True, ())
    assert (found.prompts, found.default_prompt_name) == ({"query": "q: ", "passage": ""}, "query")


def test_vectors_are_cut_after_they_are_normalized_as_sentence_transformers_does(tmp_path: Path) -> None:
    for dimensions in (16, HIDDEN, 999):
        found = read(sentence_files(tmp_path, prompts={"truncate_dim": dimensions})).pooling
        cut = DefaultPooling("checkpoint", False, 16, HIDDEN, steps=("mean pooling", "normalize", "first 16"))
        assert found == (cut if dimensions == 16 else DefaultPooling("mean", True))


def test_a_prompt_that_is_left_out_is_more_than_a_mode(tmp_path: Path) -> None:
    found = read(sentence_files(tmp_path, pooling={"pooling_mode": "mean", "include_prompt": False})).pooling
    steps = ("mean pooling without the prompt", "normalize")
    assert found == DefaultPooling("checkpoint", True, HIDDEN, HIDDEN, include_prompt=False, steps=steps)


def test_a_default_prompt_that_is_not_there_is_told(tmp_path: Path) -> None:
    (found,) = read(sentence_files(tmp_path, prompts={"default_prompt_name": "gone"})).warnings
    assert "default prompt 'gone' is not among" in found


# Modules after the pooling


def test_dense_layers_and_norms_in_their_order(tmp_path: Path) -> None:
    sentence_files(tmp_path, normalize=False, modules=("Dense", "Dropout", "Normalize", "LayerNorm", "Normalize"))
    write_json(tmp_path / "2_Dense" / "config.json", DENSE | {"bias": False, "use_residual": True})
    write_json(tmp_path / "5_LayerNorm" / "config.json", {"dimension": 20})
    found = read(tmp_path)
    assert found.shape.steps == (
        VectorShape("dense", 36, 20, bias=False, activation="ReLU", residual=True),
        VectorShape("normalize", 20, 20),
        VectorShape("layer_norm", 20, 20),
    )
    assert [folder.name for folder in found.folders] == ["2_Dense", "4_Normalize", "5_LayerNorm"]
    steps = ("mean pooling", "dense 36 to 20, ReLU", "normalize", "layer norm", "normalize")
    assert found.pooling == DefaultPooling("checkpoint", True, 20, 20, steps=steps)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_features": 37}, "it takes 37 numbers, but gets 36"),
        ({"in_features": None}, "in_features must be a whole number from 1 to 1,048,576, not None"),
        ({"out_features": 0}, "out_features must be a whole number from 1 to 1,048,576, not 0"),
    ],
)
def test_dense_layers_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_json(sentence_files(tmp_path, modules=("Dense",)) / "2_Dense" / "config.json", DENSE | changes)
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / '2_Dense' / 'config.json'}: {message}")):
        read(tmp_path)


def test_weights_of_a_dense_layer_that_do_not_fit(checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    directory = SENTENCE_MAKERS["dense"](tmp_path / "model", checkpoint("bert"))
    weights = directory / "2_Dense" / "model.safetensors"
    save_file({"linear.weight": torch.zeros(24, 72)}, weights)
    with pytest.raises(
        CheckpointError, match=r"has the weights linear\.weight, and should have linear\.bias, linear\.w"
    ):
        compile_model(directory, cache=compile_cache)
    save_file({"linear.weight": torch.zeros(20, 72), "linear.bias": torch.zeros(24)}, weights)
    with pytest.raises(CheckpointError, match=r"weight linear\.weight is \[20, 72\], and config\.json says \[24, 72\]"):
        compile_model(directory, cache=compile_cache)
    weights.unlink()
    with pytest.raises(CheckpointError, match="2_Dense has no weights"):
        compile_model(directory, cache=compile_cache)


def test_modules_and_their_weights_change_the_revision(
    checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path
) -> None:
    directory = SENTENCE_MAKERS["foldered-dense"](tmp_path / "model", checkpoint("bert"))
    names = {compile_model(directory, cache=compile_cache).name}
    edit_json(directory / "2_Dense" / "config.json", activation_function="torch.nn.modules.activation.Tanh")
    names.add(compile_model(directory, cache=compile_cache).name)
    weights = directory / "2_Dense" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    names.add(compile_model(directory, cache=compile_cache).name)
    edit_json(directory / "0_Transformer" / "tokenizer_config.json", model_max_length=50)
    names.add(compile_model(directory, cache=compile_cache).name)
    assert len(names) == 4


# Folders


def test_a_first_module_that_is_no_encoder(tmp_path: Path) -> None:
    add_module(sentence_files(tmp_path), "Normalize", "2_N")
    write_json(tmp_path / "modules.json", [{"type": "sentence_transformers.models.StaticEmbedding", "path": "0_S"}])
    with pytest.raises(
        CheckpointError, match=r"its sentence-transformers module StaticEmbedding \(0_S\) has no config"
    ):
        resolve(tmp_path)


def test_module_paths_stay_inside(tmp_path: Path) -> None:
    sentence_files(tmp_path)
    write_json(tmp_path / "modules.json", [{"type": "x.Pooling", "path": "../../elsewhere"}])
    with pytest.raises(CheckpointError, match="outside the checkpoint"):
        read(tmp_path)


# CrossEncoders


def test_a_cross_encoder_of_its_own_head(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = save_pairs(tmp_path, checkpoint("bert-cross-encoder"))
    found = read(directory)
    assert (found.classifies, found.scores_by_modules, found.unsupported, found.warnings) == (True, False, (), ())
    assert found.pooling == DefaultPooling()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"prompts": {"a": "query: "}, "default_prompt_name": "a"},
            "the prompt 'query: ' before the first text of each",
        ),
        ({"activation_fn": "torch.nn.modules.activation.Tanh"}, "the function torch.nn.modules.activation.Tanh of"),
    ],
)
def test_scores_that_would_be_others_are_refused(
    checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    directory = save_pairs(tmp_path, checkpoint("bert-cross-encoder"))
    edit_json(directory / "config_sentence_transformers.json", **changes)
    with pytest.raises(CheckpointError, match=re.escape(what)):
        compile_model(directory, cache=compile_cache)


def test_a_cross_encoder_that_ends_in_no_scores(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for task in ("feature-extraction", "sequence-classification"):
        directory = sentence_files(tmp_path / task, prompts={"model_type": "CrossEncoder"}, normalize=False)
        write_json(directory / "sentence_bert_config.json", {"transformer_task": task})
        assert read(directory).unsupported == ("a CrossEncoder whose modules end in no scores",)


# The encoder in a folder of its own


def test_an_encoder_in_a_folder_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    import shutil

    directory = in_a_folder(sentence_files(Path(shutil.copytree(checkpoint("bert"), tmp_path / "model"))))
    assert resolve(directory) == directory.resolve()
    assert transformer_folder(directory) == directory / "0_Transformer"
    assert read(directory).max_seq_length == 128
    assert read_config(transformer_folder(directory)).shape.hidden_size == HIDDEN


def test_files_in_folders_are_asked_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    from huggingface_hub.utils._paths import filter_repo_objects

    hub = SENTENCE_MAKERS["foldered-dense"](tmp_path / "hub", checkpoint("bert"))
    files = [str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()]
    local = tmp_path / "local"
    asked: list[list[str]] = []

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        for file in filter_repo_objects(files, allow_patterns=allow_patterns):
            (local / file).parent.mkdir(parents=True, exist_ok=True)
            if not (local / file).exists():
                os.link(hub / file, local / file)
        return str(local)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert from_hub("team/dense") == local
    assert {"0_Transformer/model.safetensors", "0_Transformer/tokenizer.json", "2_Dense/model.safetensors"} <= {
        str(path.relative_to(local)) for path in local.rglob("*")
    }
    assert len(asked) == 2
    # One more request, for these folders alone, where some have pickles.
    for place in (hub, local):
        (place / "2_Dense" / "model.safetensors").unlink()
    files[files.index("2_Dense/model.safetensors")] = "2_Dense/pytorch_model.bin"
    (hub / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    from_hub("team/dense")
    assert (local / "2_Dense" / "pytorch_model.bin").exists()
    assert all(pattern.startswith("2_Dense/") for pattern in asked[-1])


# Sparse vectors


def test_a_sparse_encoder_says_how_it_pools(checkpoint: Checkpoint, tmp_path: Path) -> None:
    base = checkpoint("bert-mlm")
    plain = read(save_sparse(tmp_path / "plain", base, prompts={"query": "find: "}, default_prompt_name="query"))
    assert (plain.sparse, plain.unsupported, plain.default_prompt_name) == (SparseDefault(), (), "query")
    assert "sparse" in plain.warnings[0]
    other = read(save_sparse(tmp_path / "other", base, "sum", "log1p_relu", max_active_dims=20))
    assert other.sparse == SparseDefault("sum", "log1p_relu", 20)
    assert read(base).sparse is None


def test_a_sparse_encoder_of_an_earlier_release_is_read_too(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = save_sparse(tmp_path / "made", checkpoint("bert-mlm"))
    (directory / "0_MLM").mkdir()
    for path in [*directory.glob("config.json"), *directory.glob("tokenizer*"), *directory.glob("*.safetensors")]:
        path.rename(directory / "0_MLM" / path.name)
    kinds = (("0_MLM", "MLMTransformer"), ("1_SpladePooling", "SpladePooling"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.sparse_encoder.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    write_json(directory / "modules.json", modules)
    write_json(directory / "0_MLM" / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    (directory / "sentence_bert_config.json").unlink()
    found = read(directory)
    assert (found.sparse, found.unsupported, found.max_seq_length) == (SparseDefault(), (), 64)
    assert transformer_folder(directory) == directory / "0_MLM"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pooling_strategy": "median"}, r"SpladePooling \(1_SpladePooling\) by median, relu"),
        ({"activation_function": ["relu"]}, r"SpladePooling \(1_SpladePooling\) by max, \['relu'\]"),
    ],
)
def test_splade_pooling_that_cannot_be_done_is_told(
    checkpoint: Checkpoint, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    directory = save_sparse(tmp_path / "made", checkpoint("bert-mlm"))
    edit_json(directory / "1_SpladePooling" / "config.json", **change)
    found = read(directory)
    assert found.sparse is None
    assert re.search(reason, found.unsupported[0])


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        ((), "modules end in logits"),
        (("Pooling",), "Pooling .* of logits"),
        (("SpladePooling", "Normalize"), "Normalize .* of sparse vectors"),
    ],
)
def test_other_modules_of_logits_are_refused(
    checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path, kinds: tuple[str, ...], reason: str
) -> None:
    directory = save_sparse(tmp_path / "made", checkpoint("bert-mlm"))
    write_json(
        directory / "modules.json",
        [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}],
    )
    for number, kind in enumerate(kinds, 1):
        add_module(directory, kind, f"{number}_{kind}")
    found = read(directory)
    assert re.search(reason, found.unsupported[0])
    with pytest.raises(CheckpointError, match=reason):
        compile_model(directory, cache=compile_cache)


def test_splade_pooling_of_states_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = add_module(sentence_files(tmp_path / "made"), "SpladePooling", "3_SpladePooling", {})
    assert "SpladePooling" in read(directory).unsupported[0]
