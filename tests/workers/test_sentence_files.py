"""Defaults from sentence-transformers' files and the tokenizer's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertstream.workers.checkpoints import CheckpointError, read_sentence_settings, read_tokenizer
from bertstream.workers.description import DefaultPooling
from tests.support.checkpoints import sentence_files, write_json


def test_without_files_mean_and_not_normalized(tmp_path: Path) -> None:
    found = read_sentence_settings(tmp_path)
    assert found.pooling == DefaultPooling(mode="mean", normalize=False)
    assert (found.max_seq_length, found.lowercase, found.prompts, found.warnings) == (0, False, {}, ())


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len"),
        ({"pooling_mode_lasttoken": True}, "last_token"),
        ({"word_embedding_dimension": 36}, "mean"),
        ({"embedding_dimension": 36, "pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "last_token"),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, "mean_sqrt_len"),
    ],
)
def test_old_and_new_pooling_files(tmp_path: Path, config: dict[str, Any], mode: str) -> None:
    found = read_sentence_settings(sentence_files(tmp_path, pooling=config))
    assert found.pooling == DefaultPooling(mode=mode, normalize=True)
    assert found.warnings == ()


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "lasttoken"])
def test_what_the_installed_sentence_transformers_writes(
    checkpoint: Callable[[str], Path], tmp_path: Path, mode: str
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    parts = [modules.Transformer(str(checkpoint("bert"))), modules.Pooling(36, mode), modules.Normalize()]
    model = SentenceTransformer(modules=parts, device="cpu", prompts={"query": "find: "}, default_prompt_name="query")
    model.max_seq_length = 77
    model.save(str(tmp_path), create_model_card=False)
    found = read_sentence_settings(tmp_path)
    wanted = {"mean_sqrt_len_tokens": "mean_sqrt_len", "lasttoken": "last_token"}.get(mode, mode)
    assert found.pooling == DefaultPooling(mode=wanted, normalize=True)
    assert (found.prompts["query"], found.default_prompt_name, found.warnings) == ("find: ", "query", ())
    length = found.max_seq_length or read_tokenizer(tmp_path, "bert").model_max_length
    assert length == 77


def test_settings_prompts_and_dimensions(tmp_path: Path) -> None:
    found = read_sentence_settings(
        sentence_files(
            tmp_path,
            normalize=False,
            pooling={"pooling_mode": "cls", "include_prompt": False},
            settings={"max_seq_length": 99, "do_lower_case": True},
            prompts={"prompts": {"query": "q: ", "passage": None}, "default_prompt_name": "query", "truncate_dim": 16},
        )
    )
    assert found.pooling == DefaultPooling(mode="cls", normalize=False, dimensions=16, include_prompt=False)
    assert ["leaves the tokens of a prompt out" in warning for warning in found.warnings] == [True]
    assert (found.max_seq_length, found.lowercase) == (99, True)
    assert (found.prompts, found.default_prompt_name) == ({"query": "q: ", "passage": ""}, "query")


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"modules": ("Dense",)}, "module Dense is not run"),
        ({"modules": ("LayerNorm",)}, "module LayerNorm is not run"),
        ({"pooling": {"pooling_mode": ["cls", "mean"]}}, r"pooling cls \+ mean is not supported"),
        ({"pooling": {"pooling_mode": "weightedmean"}}, "pooling weightedmean is not supported"),
        ({"prompts": {"default_prompt_name": "gone"}}, "default prompt 'gone' is not among"),
    ],
)
def test_what_is_not_done_is_said(tmp_path: Path, options: dict[str, Any], warning: str) -> None:
    import re

    (found,) = read_sentence_settings(sentence_files(tmp_path, **options)).warnings
    assert re.search(warning, found)


def test_module_paths_stay_inside(tmp_path: Path) -> None:
    sentence_files(tmp_path)
    write_json(tmp_path / "modules.json", [{"type": "x.Pooling", "path": "../../elsewhere"}])
    with pytest.raises(CheckpointError, match="outside the checkpoint"):
        read_sentence_settings(tmp_path)
