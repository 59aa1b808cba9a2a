"""Test the measurement of a program's precision when it is compiled."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bertstream.workers import native
from bertstream.workers.compile.checkpoints import CheckpointError, embedded
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.compile.precision import LENGTHS, texts
from bertstream.workers.models import BertShape
from bertstream.workers.programs.description import ModelDescription, PrecisionTest
from bertstream.workers.programs.program import ScriptedProgram

Checkpoint = Callable[[str], Path]


def measured(directory: Path, cache: Path, dtype: str, device: str = "cpu") -> PrecisionTest:
    return ModelDescription.load(compile_model(directory, dtype=dtype, device=device, cache=cache)).precision_test


@pytest.mark.parametrize(
    "name", ["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet", "deberta-v2", "albert"]
)
def test_less_precision_is_further_from_float32(checkpoint: Checkpoint, compile_cache: Path, name: str) -> None:
    exact, half, brain = (
        measured(checkpoint(name), compile_cache, each) for each in ("float32", "float16", "bfloat16")
    )
    assert exact.max_abs_difference <= 1e-5
    assert exact.max_abs_difference < half.max_abs_difference < brain.max_abs_difference
    assert exact.min_cosine > half.min_cosine > brain.min_cosine > 0.99


def test_it_is_what_the_program_does(compile_cache: Path) -> None:
    """Measure again from outside, with the programs as they were saved."""
    exact, brain = (
        ScriptedProgram.load(compile_model(embedded(), dtype=each, cache=compile_cache), "cpu") for each in DTYPES
    )
    layers = [exact.description.layers]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(exact.description.vocabulary_size, (sum(LENGTHS),), generator=generator, dtype=torch.int32)
    want, got = (each.hidden_states(ids, None, list(LENGTHS), layers)[0].double() for each in (exact, brain))
    found = brain.description.precision_test
    assert found.max_abs_difference == pytest.approx(float((got - want).abs().max()), rel=1e-3)
    assert found.min_cosine == pytest.approx(float(torch.cosine_similarity(got, want).min()), abs=1e-6)
    assert found.min_cosine >= 0.99


DTYPES = ("float32", "bfloat16")


def test_the_reference_itself_is_not_tested(
    checkpoint: Checkpoint, compile_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.library.SWITCH, "0")
    assert measured(checkpoint("bert"), compile_cache, "float32") == PrecisionTest(0.0, 1.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, the GPU is tested")
def test_programs_for_cuda_are_tested_on_the_cpu_where_there_is_no_gpu(
    checkpoint: Checkpoint, compile_cache: Path
) -> None:
    found = measured(checkpoint("bert"), compile_cache, "float16", "cuda")
    assert 0 < found.max_abs_difference < 0.1


def test_texts_are_of_different_lengths_and_as_long_as_the_model_allows() -> None:
    shape = BertShape(
        vocabulary_size=50, hidden_size=8, layers=1, attention_heads=1, intermediate_size=8, positions=20,
        type_vocabulary_size=1, activation="gelu", layer_norm_eps=1e-5, embedding_size=8, positions_skip_padding=True,
        pad_token_id=1, has_pooler=False,
    )  # fmt: skip
    lengths, ids = texts(shape)
    assert lengths == [1, 2, 7, 16, 18, 18]
    assert ids.shape == (sum(lengths),)
    assert 0 <= int(ids.min()) <= int(ids.max()) < 50


@pytest.mark.parametrize(
    ("factor", "dtype", "message"),
    [
        (1e6, "float16", "too large for float16; choose another precision"),
        (torch.nan, "bfloat16", "not finite, so it cannot be served"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(
    checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path, factor: float, dtype: str, message: str
) -> None:
    directory = Path(shutil.copytree(checkpoint("bert"), tmp_path / "copy"))
    weights = load_file(directory / "model.safetensors")
    weights["encoder.layer.2.intermediate.dense.weight"] *= factor
    save_file(weights, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        compile_model(directory, dtype=dtype, cache=compile_cache)
