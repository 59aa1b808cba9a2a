"""Test sentence-transformers' modules as part of a program: their numbers, in any precision and by any path."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense as TheirDense
from torch import Tensor, nn

from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.contract import Batch, OutputOptions, Pooling, Spans, Work
from bertstream.workers.engine import graphs
from bertstream.workers.engine.batch import prepare
from bertstream.workers.engine.engine import run
from bertstream.workers.engine.outputs import finish
from bertstream.workers.models import DENSE_ACTIVATIONS, Operators, VectorShape
from bertstream.workers.models.sentence import Dense
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import TEXTS
from tests.support.sentence import HIDDEN, SENTENCE_MAKERS
from tests.workers.engine.test_graphs import CPU, SHAPES, Tape, limits_of, needs_compiler

Checkpoint = Callable[[str], Path]
NEAR = 1e-5


@pytest.fixture(scope="module")
def directory(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a checkpoint with two poolings, a dense layer and a norm."""
    return SENTENCE_MAKERS["dense"](tmp_path_factory.mktemp("modules") / "dense", checkpoint("bert"))


@pytest.fixture(scope="module")
def program(directory: Path, compile_cache: Path) -> ScriptedProgram:
    return ScriptedProgram.load(compile_model(directory, cache=compile_cache), "cpu")


@pytest.mark.parametrize("activation", DENSE_ACTIVATIONS)
@pytest.mark.parametrize(("outputs", "residual"), [(9, False), (9, True), (6, True)])
def test_a_dense_layer_has_sentence_transformers_numbers(activation: str, outputs: int, residual: bool) -> None:
    torch.manual_seed(3)
    theirs = TheirDense(6, outputs, activation_function=getattr(nn, activation)(), use_residual=residual)
    ours = Dense(VectorShape("dense", 6, outputs, activation=activation, residual=residual), Operators())
    ours.load_state_dict(theirs.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated
        scripted = torch.jit.script(ours)
    x = torch.randn(5, 6) * 3
    torch.testing.assert_close(scripted(x), theirs({"sentence_embedding": x})["sentence_embedding"])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_what_becomes_of_pooled_vectors_is_float32_in_any_precision(
    directory: Path, program: ScriptedProgram, compile_cache: Path, dtype: str
) -> None:
    coarse = ScriptedProgram.load(compile_model(directory, cache=compile_cache, dtype=dtype), "cpu")
    states = torch.randn(12, HIDDEN, generator=torch.Generator().manual_seed(0))
    found, want = (each.pool(states, [7, 5], "checkpoint") for each in (coarse, program))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, want)


def batch_of(directory: Path, texts: tuple[str, ...]) -> tuple[Batch, np.ndarray[Any, Any]]:
    """Return packed token ids, and what sentence-transformers makes of the texts."""
    model = SentenceTransformer(str(directory), device="cpu")
    ids = [model.tokenizer(text, truncation=True, max_length=512)["input_ids"] for text in texts]
    lengths = np.array([len(each) for each in ids], np.int32)
    return Batch(np.concatenate(ids).astype(np.int32), lengths), model.encode(list(texts), prompt="")


def vectors(program: ScriptedProgram, works: list[Work]) -> list[np.ndarray[Any, Any]]:
    found = run(program, prepare(works, program.description.layers))
    return [next(iter(each.values())).numpy() for each in found]


def test_works_of_one_batch_share_them_with_other_poolings(directory: Path, program: ScriptedProgram) -> None:
    batch, want = batch_of(directory, TEXTS)
    last = (program.description.layers,)
    own, plain = Pooling("checkpoint", last, normalize=True, dimensions=24), Pooling("mean", last)
    works = [Work(i, batch, OutputOptions(("pooled",), each)) for i, each in enumerate((own, plain, own))]
    first, mean, second = vectors(program, works)
    np.testing.assert_allclose(first, want, atol=NEAR)
    np.testing.assert_array_equal(first, second)
    assert mean.shape == (len(TEXTS), HIDDEN)


def test_spans_and_none_of_them(directory: Path, program: ScriptedProgram) -> None:
    batch, want = batch_of(directory, TEXTS[:2])
    own = Pooling("checkpoint", (program.description.layers,), normalize=True)
    whole = Spans(np.ones(2, np.int32), np.zeros(2, np.int32), batch.lengths)
    nothing = np.zeros(0, np.int32)
    for spans, count in ((whole, 2), (Spans(np.zeros(2, np.int32), nothing, nothing), 0)):
        asked = Batch(batch.ids, batch.lengths, spans=spans)
        (found,) = vectors(program, [Work(1, asked, OutputOptions(("pooled_spans",), own))])
        np.testing.assert_allclose(found, want[:count], atol=NEAR)
        assert found.shape == (count, 24)


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token"])
def test_tokens_that_are_skipped_count_for_nothing_but_places(program: ScriptedProgram, mode: Any) -> None:
    generator = np.random.default_rng(5)
    lengths = np.array([3, 9, 6, 4, 9], np.int32)  # in the second work, some texts have no more tokens than are skipped
    ids = generator.integers(5, 300, lengths.sum()).astype(np.int32)
    last = program.description.layers
    output_options = [OutputOptions(("pooled",), Pooling(mode, (last,), skipped=skipped)) for skipped in (2, 0, 4)]
    works = [Work(i, Batch(ids, lengths), each) for i, each in enumerate(output_options)]
    found = vectors(program, works)[:2]
    (states,) = program.hidden_states(torch.from_numpy(ids), None, lengths.tolist(), [last])
    for skipped, got in zip((2, 0), found, strict=True):
        for text, row in zip(states.split(lengths.tolist()), got, strict=True):
            np.testing.assert_allclose(row, _pooled(text, mode, skipped).numpy(), atol=NEAR)


def _pooled(text: Tensor, mode: str, skipped: int) -> Tensor:
    rest = text[skipped:]
    weights = torch.arange(skipped + 1.0, len(text) + 1.0)[:, None]
    pooled: dict[str, Tensor] = {
        "cls": rest[0],
        "mean": rest.mean(0),
        "max": rest.amax(0),
        "mean_sqrt_len": rest.sum(0) / len(rest) ** 0.5,
        "weighted_mean": (rest * weights).sum(0) / weights.sum(),
        "last_token": rest[-1],
    }
    return pooled[mode]


@needs_compiler
def test_graphs_record_them(directory: Path, program: ScriptedProgram) -> None:
    recorded, last = (
        graphs.RecordedProgram(program, SHAPES, Tape(), CPU, limits_of(program)),
        program.description.layers,
    )
    own = Pooling("checkpoint", (last,), normalize=True, dimensions=24)
    assert own in recorded.recorded
    lengths = [16, 5, 5, 1]
    ids = torch.arange(5, 5 + sum(lengths), dtype=torch.int32)
    given = recorded.replay(ids, None, lengths, [], frozenset({own}))
    assert given is not None
    states = program.hidden_states(ids, None, lengths, [last])[0]
    want = finish(own, program.pool(states, lengths, "checkpoint"))
    torch.testing.assert_close(given.vectors[own], want, atol=NEAR, rtol=NEAR)


def test_a_program_without_them_says_so(checkpoint: Checkpoint, compile_cache: Path) -> None:
    plain = ScriptedProgram.load(compile_model(checkpoint("bert"), cache=compile_cache), "cpu")
    with pytest.raises(ValueError, match="no sentence-transformers modules"):
        plain.pool(torch.zeros(3, HIDDEN), [3], "checkpoint")
