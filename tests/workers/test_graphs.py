"""Graphs give what the program gives, and the program alone serves where they cannot: with a recorder that records a
call of the program, since only a GPU can record more.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bertstream.workers import graphs, native, process
from bertstream.workers.compile import compile_model
from bertstream.workers.contract import Pooling, Wishes
from bertstream.workers.engine import prepare, run
from bertstream.workers.graphs import Bucket, Graphs, Limits, Recorded, buckets, made_up_lengths, record
from bertstream.workers.program import Program
from tests.support.works import make_work

needs_compiler = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])
CPU = torch.device("cpu")
SHAPES = [Bucket(64, 8, 16), Bucket(128, 16, 64)]


class Tape:
    """Calls again what was recorded, and writes to where it wrote."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.replays = 0

    def __call__(self, recorded: Callable[[], Tensor]) -> Recorded:
        states = recorded().clone()

        def replay() -> None:
            self.replays += 1
            states.copy_(recorded())

        return replay, states


def limits_of(program: Program) -> Limits:
    known = program.description
    return Limits(known.vocabulary_size, known.type_vocabulary_size, known.max_tokens, known.layers)


@pytest.fixture(params=["bert", "roberta-pad"])
def program(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path], compile_cache: Path) -> Program:
    """Whose attention takes texts of any lengths, as on a GPU."""
    return Program.load(compile_model(checkpoint(request.param), cache=compile_cache), "cpu")


def random_ids(program: Program, tokens: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(program.vocabulary_size, (tokens,), generator=generator, dtype=torch.int32)


BATCHES = [[1], [16, 16, 16], [16, 5, 5, 1], [64], [50, 40, 38], [1] * 7, [2] * 14]


@needs_compiler
@pytest.mark.parametrize("typed", [False, True])
def test_a_replayed_batch_equals_a_plain_one(program: Program, typed: bool) -> None:
    tape = Tape()
    recorded = Graphs(program, SHAPES, tape, CPU, limits_of(program))
    checked, last = tape.replays, [program.description.layers]
    for seed, lengths in enumerate(BATCHES):
        ids = random_ids(program, sum(lengths), seed)
        types = ids % program.description.type_vocabulary_size if typed else None
        found = recorded.run(ids, types, lengths, last)
        assert found is not None
        want = program.hidden_states(ids, types, lengths, last)[0]
        assert found.shape == want.shape
        assert float((found - want).abs().max()) <= 1e-5
    assert tape.replays - checked == len(BATCHES)


@needs_compiler
def test_states_are_the_caller_s_own(program: Program) -> None:
    recorded, last = Graphs(program, SHAPES, Tape(), CPU, limits_of(program)), [program.description.layers]
    first = recorded.run(random_ids(program, 9), None, [9], last)
    assert first is not None
    kept = first.clone()
    recorded.run(random_ids(program, 9, 1), None, [9], last)
    assert torch.equal(first, kept)


@needs_compiler
def test_what_no_graph_takes_goes_the_plain_way(program: Program) -> None:
    tape = Tape()
    program.graphs = Graphs(program, SHAPES, tape, CPU, limits_of(program))
    last, checked = program.description.layers, tape.replays
    for lengths, layers in (([129], [last]), ([1] * 17, [last]), ([4], [0]), ([4], [last, 0]), ([4], [])):
        ids = random_ids(program, sum(lengths))
        assert program.graphs.run(ids, None, lengths, layers) is None
        states = program.hidden_states(ids, None, lengths, layers)
        assert [each.shape[0] for each in states] == [sum(lengths)] * len(layers)
    assert tape.replays == checked


@needs_compiler
def test_the_engine_gives_the_same_vectors_with_graphs(program: Program) -> None:
    last, types = program.description.layers, program.description.type_vocabulary_size > 1
    works = [
        make_work(1, [3, 9], wishes=Wishes(("pooled",), Pooling("mean", (last,), normalize=True)), first_id=20),
        make_work(2, [5], wishes=Wishes(("last_hidden_state",)), first_id=50, type_ids=types),
    ]
    plain = run(program, prepare(works, last))
    tape = Tape()
    program.graphs = Graphs(program, SHAPES, tape, CPU, limits_of(program))
    checked = tape.replays
    for found, want in zip(run(program, prepare(works, last)), plain, strict=True):
        assert list(found) == list(want)
        for name in want:
            torch.testing.assert_close(found[name], want[name], atol=1e-5, rtol=0)
    assert tape.replays == checked + 1


def test_without_attention_for_any_lengths_there_are_none(
    checkpoint: Callable[[str], Path],
    compile_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("BERTSTREAM_NATIVE", "0")
    program = Program.load(compile_model(checkpoint("bert"), cache=compile_cache), "cpu")
    assert record(program, CPU, 256, limits_of(program), Tape) is None
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert "CUDA graphs are not used" in line.message
    assert "equal length" in line.message


class Plain:
    """A program of one layer, which states are made of their ids, types and places."""

    def __init__(self, wrong: float = 0.0) -> None:
        self.wrong = wrong  # how much `last_states` is off, or not a number

    def hidden_states(
        self, ids: Tensor, type_ids: Tensor | None, lengths: list[int], layers: list[int]
    ) -> list[Tensor]:
        places = torch.cat([torch.arange(length) for length in lengths])
        types = torch.zeros_like(ids) if type_ids is None else type_ids
        return [torch.stack([ids + 1.0, types + 1.0, places + 1.0], dim=1)]

    def last_states(self, ids: Tensor, type_ids: Tensor | None, cu_seqlens: Tensor, longest: int) -> Tensor:
        lengths = [length for length in cu_seqlens.diff().tolist() if length]
        assert max(lengths) <= longest
        (states,) = self.hidden_states(ids, type_ids, lengths, [1])
        return states + torch.tensor([0.0, 0.0, self.wrong])


LIMITS = Limits(vocabulary=50, types=2, max_tokens=512, last_layer=1)


def test_graphs_are_recorded_for_as_many_tokens_as_a_batch_has(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = record(Plain(), CPU, 1000, LIMITS, Tape)
    assert found is not None
    assert "7 CUDA graphs for batches of up to 1024 tokens" in caplog.text
    assert found.run(torch.arange(1000), None, [500, 500], [1]) is not None
    assert found.run(torch.arange(1025), None, [500, 500, 25], [1]) is None


@pytest.mark.parametrize(("wrong", "reason"), [(9.0, "other numbers"), (float("nan"), "not finite")])
def test_graphs_that_give_other_numbers_are_not_used(
    wrong: float, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert record(Plain(wrong), CPU, 256, LIMITS, Tape) is None
    assert reason in caplog.text


def test_graphs_that_do_not_read_their_input_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def frozen(device: torch.device) -> graphs.Recorder:
        return lambda recorded: (lambda: None, recorded())

    assert record(Plain(), CPU, 256, LIMITS, frozen) is None
    assert "other numbers" in caplog.text


def test_a_recording_that_fails_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def broken(device: torch.device) -> graphs.Recorder:
        raise RuntimeError("Traceback\n  of TorchScript\nCUDA error: operation not permitted when stream is capturing")

    assert record(Plain(), CPU, 256, LIMITS, broken) is None
    (line,) = caplog.records
    assert line.message.endswith(
        "small batches take longer: CUDA error: operation not permitted when stream is capturing"
    )


def test_the_switch(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(graphs.SWITCH, "0")
    caplog.set_level(logging.INFO)
    assert record(Plain(), CPU, 256, LIMITS, Tape) is None
    assert "BERTSTREAM_GRAPHS=0" in caplog.text


@needs_compiler
def test_the_worker_records_at_its_start(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "CudaRecorder", Tape)
    process.record_graphs(program, 128)
    assert program.graphs is not None
    process.run_small_batches(program, "cpu")


@given(
    st.sampled_from(buckets(8192, 512) + buckets(8192, 30) + buckets(100, 8)),
    st.lists(st.integers(1, 512), min_size=1, max_size=80),
)
def test_texts_fill_a_graph(bucket: Bucket, lengths: list[int]) -> None:
    starts = bucket.cu_seqlens(lengths)
    tail = -(-(bucket.tokens - sum(lengths)) // bucket.longest)
    fits = sum(lengths) <= bucket.tokens and max(lengths) <= bucket.longest and len(lengths) + tail <= bucket.texts
    assert (starts is not None) == fits
    if starts is None:
        return
    assert starts.dtype == np.int32
    assert starts.shape == (bucket.texts + 1,)
    assert (starts[0], starts[-1]) == (0, bucket.tokens)
    sizes = np.diff(starts)
    assert sizes[: len(lengths)].tolist() == lengths
    assert (sizes[len(lengths) :] >= 0).all()
    assert sizes.max() <= bucket.longest


@pytest.mark.parametrize(("batch_tokens", "largest"), [(1, 128), (128, 128), (129, 192), (16384, 8192)])
def test_no_graph_is_larger_than_needed(batch_tokens: int, largest: int) -> None:
    found = buckets(batch_tokens, 512)
    assert found[-1].tokens == largest
    assert found == sorted(found)


@pytest.mark.parametrize("max_tokens", [1, 8, 30, 512, 8192])
def test_every_graph_takes_a_text_of_any_length_and_its_own_check(max_tokens: int) -> None:
    for bucket in buckets(16384, max_tokens):
        assert bucket.longest <= max_tokens
        texts: Sequence[list[int]] = [[1], [min(bucket.longest, bucket.tokens)], made_up_lengths(bucket)]
        for lengths in texts:
            assert bucket.cu_seqlens(lengths) is not None
        made_up = made_up_lengths(bucket)
        assert all(a >= b for a, b in itertools.pairwise(made_up))
