"""Test MPNet's bias by distance, and what the interface for architectures asks of such an encoder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder as Theirs

from bertstream.workers import native
from bertstream.workers.compile.checkpoints import CheckpointError, read_config
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.engine.graphs import Limits, record
from bertstream.workers.models import Operators
from bertstream.workers.models.attention import distance_bias
from bertstream.workers.models.mpnet import MPNetEncoder, MPNetShape, buckets_of
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import TEXTS, edit_json, sentence_files
from tests.support.pairs import EXACT, Pair, difference, sizes
from tests.support.reference import sentence_vectors, worst

SHAPE = MPNetShape(
    vocabulary_size=50, hidden_size=16, layers=2, attention_heads=2, intermediate_size=24, positions=20,
    activation="gelu", layer_norm_eps=1e-5, embedding_size=16, buckets=32,
)  # fmt: skip


def test_buckets_are_transformers() -> None:
    distances = torch.arange(-1100, 1101)
    theirs: Any = Theirs
    assert torch.equal(buckets_of(distances), theirs.relative_position_bucket(distances))


def test_a_bias_is_laid_out_as_attention_reads_it() -> None:
    by_distance = torch.arange(10.0).view(5, 2)  # for distances from -2 to 2
    assert distance_bias(by_distance, native=True).tolist() == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    squares = distance_bias(by_distance.bfloat16(), native=False)
    assert squares.dtype == torch.bfloat16
    assert squares[0].tolist() == [[4, 6, 8], [2, 4, 6], [0, 2, 4]]


@pytest.mark.parametrize(
    ("operators", "expected"),
    [
        (Operators(), False),
        (Operators(native=True), True),
        (Operators(flash=True), False),  # flash attention has no kernel for the bias
        (Operators(native=True, flash=True), False),  # nor have ours for GPUs
    ],
)
def test_only_cpus_take_any_lengths(operators: Operators, expected: bool) -> None:
    assert MPNetEncoder(SHAPE, operators).any_lengths == expected


@pytest.mark.parametrize("switch", ["1", "0"])
def test_it_is_exact_with_and_without_operators(
    checkpoint: Callable[[str], Path], compile_cache: Path, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setenv(native.library.SWITCH, switch)
    both = Pair(checkpoint("mpnet"), compile_cache)
    assert both.program.description.native_operators == native.status()[0]
    ids, _ = both.encode(TEXTS)
    found = both.forward(ids, None, list(range(both.layers + 1)), both.everything(len(ids)))
    states = [layer.split(sizes(ids)) for layer in found.states]
    for i, text in enumerate(ids):
        want = both.output(text)
        assert all(difference(got[i], state[0]) <= EXACT for got, state in zip(states, want.hidden_states, strict=True))
        assert all(
            difference(got[i], weights[0]) <= EXACT for got, weights in zip(found.weights, want.attentions, strict=True)
        )
        (alone,) = both.run([text], None, [both.layers])
        assert difference(alone, states[-1][i]) <= EXACT


def test_steps_through_layers_go_on_with_the_bias(pair: Callable[[str], Pair]) -> None:
    both = pair("mpnet")
    ids, _ = both.encode(TEXTS[:4])
    (whole,) = both.run(ids, None, [both.layers])
    (half,) = both.run(ids, None, [2])
    assert torch.equal(both.program.advance(half, sizes(ids), 2, [both.layers]).states[0], whole)


def test_pad_ids_within_a_text_take_no_position(pair: Callable[[str], Pair]) -> None:
    both = pair("mpnet")
    ids = [[0, 40, 41, 2], [0, 1, 40, 1, 41, 42], [1, 1], [40], [0, 40, 1]]
    (states,) = both.run(ids, None, [both.layers])
    assert difference(states, torch.cat([both.expected(text)[-1] for text in ids])) <= EXACT


def test_a_program_without_operators_is_not_recorded(
    checkpoint: Callable[[str], Path],
    compile_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(native.library.SWITCH, "0")
    program = ScriptedProgram.load(compile_model(checkpoint("mpnet"), cache=compile_cache), "cpu")
    known = program.description
    limits = Limits(known.vocabulary_size, known.type_vocabulary_size, known.max_tokens, known.layers)
    found = record(program, torch.device("cpu"), 128, limits, lambda device: lambda run: (lambda: None, run()))
    assert found is program
    assert "attention takes only texts of equal length here" in caplog.text


@pytest.fixture
def changed(checkpoint: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a checkpoint with these values in config.json."""

    def change(**values: Any) -> Path:
        directory = Path(shutil.copytree(checkpoint("mpnet"), tmp_path / "copy"))
        edit_json(directory / "config.json", **values)
        return directory

    return change


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"relative_attention_num_buckets": 31}, "relative_attention_num_buckets must be at least 32, not 31"),
        (
            {"relative_attention_num_buckets": "x"},
            "relative_attention_num_buckets must be a whole number from 1 to 65,536, not 'x'",
        ),
        ({"max_position_embeddings": 2}, "max_position_embeddings 2 leaves no positions"),
        ({"is_decoder": True}, "mpnet has no decoders"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(
    changed: Callable[..., Path], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_config(changed(**values))


def test_settings_that_transformers_does_not_read_change_nothing(changed: Callable[..., Path]) -> None:
    shape = read_config(changed(pad_token_id=7, relative_attention_num_buckets=None)).shape
    assert isinstance(shape, MPNetShape)
    assert (shape.max_tokens, shape.buckets, shape.type_vocabulary_size) == (512, 32, 0)


def test_a_folder_of_sentence_transformers(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(checkpoint("mpnet"), tmp_path / "all-mpnet-tiny"))
    sentence_files(directory, pooling={"word_embedding_dimension": 36, "pooling_mode_mean_tokens": True})
    both = Pair(directory, compile_cache)
    its = both.program.description
    assert (its.default_pooling.mode, its.default_pooling.normalize) == ("mean", True)
    assert (its.default_max_length, its.warnings) == (128, ())
    ids, _ = both.encode(TEXTS[:7])
    (states,) = both.run(ids, None, [both.layers])
    found = torch.nn.functional.normalize(both.program.pool(states, sizes(ids), "mean"), dim=1)
    assert worst(found.numpy(), torch.from_numpy(sentence_vectors(directory, list(TEXTS[:7])))) <= EXACT
