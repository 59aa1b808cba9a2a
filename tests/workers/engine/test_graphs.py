"""Test that graphs give the program's numbers, and that the program serves alone where they cannot.

The recorder records calls of the program, since only a GPU can record more.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from torch import Tensor

from bertstream.workers import native
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.contract import OutputOptions, Pooling, PoolingMode, Spans, Work
from bertstream.workers.engine import graphs
from bertstream.workers.engine.batch import prepare
from bertstream.workers.engine.engine import run
from bertstream.workers.engine.graphs import (
    Bucket,
    Graph,
    Limits,
    Recorded,
    RecordedProgram,
    buckets,
    made_up_lengths,
    record,
)
from bertstream.workers.engine.outputs import finish
from bertstream.workers.process import worker as process
from bertstream.workers.programs.description import DefaultPooling
from bertstream.workers.programs.interface import Encoded
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.works import FakeProgram, make_work

needs_compiler = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])
CPU = torch.device("cpu")
SHAPES = [Bucket(64, 8, 16), Bucket(128, 16, 64)]
MODES: tuple[PoolingMode, ...] = ("cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token")


class Tape:
    """Repeat the recorded calls, and write their results to the recorded tensors."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.replays = 0

    def __call__(self, recorded: Callable[[], list[Tensor]]) -> Recorded:
        written = [each.clone() for each in recorded()]

        def replay() -> None:
            self.replays += 1
            for tensor, values in zip(written, recorded(), strict=True):
                tensor.copy_(values)

        return replay, written


def limits_of(program: ScriptedProgram) -> Limits:
    known = program.description
    return Limits(known.vocabulary_size, known.type_vocabulary_size, known.max_tokens, known.layers)


@pytest.fixture(params=["bert", "roberta-pad"])
def program(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path], compile_cache: Path) -> ScriptedProgram:
    """Return a program whose attention takes texts of any lengths, as on a GPU."""
    return ScriptedProgram.load(compile_model(checkpoint(request.param), cache=compile_cache), "cpu")


def random_ids(program: ScriptedProgram, tokens: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(program.vocabulary_size, (tokens,), generator=generator, dtype=torch.int32)


BATCHES = [[1], [16, 16, 16], [16, 5, 5, 1], [64], [50, 40, 38], [1] * 7, [2] * 14]


@needs_compiler
@pytest.mark.parametrize("program", ["bert", "roberta-pad", "nomic_bert"], indirect=True)
@pytest.mark.parametrize("typed", [False, True])
def test_a_replayed_batch_equals_a_plain_one(program: ScriptedProgram, typed: bool) -> None:
    tape = Tape()
    recorded = RecordedProgram(program, SHAPES, tape, CPU, limits_of(program))
    checked, last = tape.replays, [program.description.layers]
    for seed, lengths in enumerate(BATCHES):
        ids = random_ids(program, sum(lengths), seed)
        types = ids % program.description.type_vocabulary_size if typed else None
        found = recorded.replay(ids, types, lengths, last)
        assert found is not None
        assert not found.vectors
        (want,) = program.hidden_states(ids, types, lengths, last)
        torch.testing.assert_close(found.states, {last[0]: want}, atol=1e-5, rtol=0)
    assert tape.replays - checked == len(BATCHES)


@needs_compiler
@pytest.mark.parametrize("dimensions", [0, 7])
@pytest.mark.parametrize("mode", MODES)
def test_vectors_are_recorded_in_every_mode(program: ScriptedProgram, mode: PoolingMode, dimensions: int) -> None:
    program.description = structs.replace(
        program.description, default_pooling=DefaultPooling(mode, dimensions=dimensions)
    )
    recorded, last = RecordedProgram(program, SHAPES, Tape(), CPU, limits_of(program)), program.description.layers
    assert recorded.recorded == {Pooling(mode, (last,), "mean", each, dimensions) for each in (False, True)}
    for seed, lengths in enumerate(BATCHES):
        ids = random_ids(program, sum(lengths), seed)
        found = recorded.replay(ids, None, lengths, [], recorded.recorded)
        assert found is not None
        assert not found.states
        pooled = program.pool(program.hidden_states(ids, None, lengths, [last])[0], lengths, mode)
        for pooling in recorded.recorded:
            torch.testing.assert_close(found.vectors[pooling], finish(pooling, pooled), atol=1e-5, rtol=1e-5)


@needs_compiler
@pytest.mark.parametrize("mode", MODES)
def test_a_text_s_vector_is_the_same_beside_any_others(program: ScriptedProgram, mode: PoolingMode) -> None:
    program.description = structs.replace(program.description, default_pooling=DefaultPooling(mode))
    recorded = RecordedProgram(program, SHAPES, Tape(), CPU, limits_of(program))
    pooling, ids = Pooling(mode, (program.description.layers,), normalize=True), random_ids(program, 5)
    found = []
    for before, after in (([], []), ([16, 9], [5, 1]), ([50, 40], [28]), ([5] * 9, [])):
        others = [random_ids(program, sum(lengths), 1) for lengths in (before, after)]
        lengths = [*before, 5, *after]
        given = recorded.replay(torch.cat([others[0], ids, others[1]]), None, lengths, [], frozenset({pooling}))
        assert given is not None
        assert list(given.vectors) == [pooling]
        assert given.vectors[pooling].shape == (len(lengths), program.description.hidden_size)
        found.append(given.vectors[pooling][len(before)])
    for each in found:
        torch.testing.assert_close(each, found[0], atol=1e-5, rtol=0)


@needs_compiler
def test_what_is_given_is_the_caller_s_own(program: ScriptedProgram) -> None:
    recorded, last = RecordedProgram(program, SHAPES, Tape(), CPU, limits_of(program)), [program.description.layers]
    first = recorded.replay(random_ids(program, 9), None, [9], last, recorded.recorded)
    assert first is not None
    tensors = [*first.states.values(), *first.vectors.values()]
    assert len(tensors) == 3
    kept = [each.clone() for each in tensors]
    recorded.replay(random_ids(program, 9, 1), None, [9], last, recorded.recorded)
    assert all(torch.equal(each, before) for each, before in zip(tensors, kept, strict=True))


@needs_compiler
def test_what_no_graph_takes_goes_the_plain_way(program: ScriptedProgram) -> None:
    tape = Tape()
    recorded = RecordedProgram(program, SHAPES, tape, CPU, limits_of(program))
    last, checked = program.description.layers, tape.replays
    for lengths, layers in (([129], [last]), ([1] * 17, [last]), ([4], [0]), ([4], [0, last]), ([4], [])):
        ids = random_ids(program, sum(lengths))
        assert recorded.replay(ids, None, lengths, layers) is None
        found = recorded.encode(ids, None, lengths, layers, frozenset())
        assert {layer: each.shape[0] for layer, each in found.states.items()} == dict.fromkeys(layers, sum(lengths))
    other = frozenset({Pooling("max", (last,))})
    assert recorded.replay(random_ids(program, 4), None, [4], [last], other) is None
    assert tape.replays == checked


@needs_compiler
def test_vectors_come_along_and_what_has_none_brings_its_states(program: ScriptedProgram) -> None:
    recorded, last = RecordedProgram(program, SHAPES, Tape(), CPU, limits_of(program)), program.description.layers
    own, other, lower = Pooling("mean", (last,)), Pooling("max", (last,)), Pooling("mean", (0,))
    ids = random_ids(program, 5)
    for layers, poolings, states in (
        ([], {own}, []),
        ([last], {own}, [last]),
        ([], {own, other}, [last]),
        ([], {own, lower}, [0, last]),
    ):
        found = recorded.encode(ids, None, [3, 2], layers, frozenset(poolings))
        assert list(found.states) == states
        assert set(found.vectors) == ({own} if lower not in poolings else set())


def vectors(number: int, lengths: list[int], pooling: Pooling, **more: Any) -> Work:
    return make_work(number, lengths, output_options=OutputOptions(("pooled",), pooling, **more), first_id=10 * number)


def mixed_works(last: int) -> dict[str, list[Work]]:
    """Return works, by what they have in common."""
    own, plain = Pooling("mean", (last,), normalize=True), Pooling("mean", (last,))
    both = make_work(8, [4, 2], output_options=OutputOptions(("last_hidden_state", "pooled"), own), first_id=30)
    spans = Spans(np.array([2], np.int32), np.array([0, 3], np.int32), np.array([4, 2], np.int32))
    spanned = make_work(9, [6], output_options=OutputOptions(("pooled_spans", "pooled"), own), first_id=40)
    spanned = replace(spanned, batch=replace(spanned.batch, spans=spans))
    usual = [vectors(1, [3, 9], own), vectors(2, [5], plain), vectors(3, [9, 1], own), vectors(4, [2], own)]
    states = make_work(
        5,
        [5],
        output_options=OutputOptions(("last_hidden_state", "hidden_states"), hidden_layers=(last,)),
        type_ids=True,
    )
    cut, largest = vectors(6, [3], replace(own, dimensions=5)), vectors(7, [4], Pooling("max", (last,), normalize=True))
    pooler = make_work(10, [3], output_options=OutputOptions(("pooler_output", "pooled"), Pooling("pooler", (last,))))
    return {
        "usual vectors": usual,
        "in other types": [vectors(1, [3, 9], own, wire_type="int8"), vectors(2, [4], own, wire_type="float16")],
        "other vectors": [cut, largest, pooler],
        "states": [states, both],
        "spans": [spanned],
        "all": [*usual, cut, largest, states, both, spanned, pooler],
    }


@needs_compiler
@pytest.mark.parametrize("kind", mixed_works(1))
def test_the_engine_gives_the_same_with_graphs(
    checkpoint: Callable[[str], Path], compile_cache: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = ScriptedProgram.load(compile_model(checkpoint("bert"), cache=compile_cache), "cpu")
    last = program.description.layers
    works = mixed_works(last)[kind]
    plain = run(program, prepare(works, last))
    tape, copied = Tape(), list[str]()
    recorded = RecordedProgram(program, SHAPES, tape, CPU, limits_of(program))
    checked = tape.replays
    for name in ("states", "vectors"):
        monkeypatch.setattr(Graph, name, noting(getattr(Graph, name), copied))
    for found, want in zip(run(recorded, prepare(works, last)), plain, strict=True):
        assert list(found) == list(want)
        for name, values in want.items():
            near = 1 if values.dtype == torch.int8 else 1e-3 if values.dtype == torch.float16 else 1e-5
            torch.testing.assert_close(found[name], values, atol=near, rtol=0)
    assert tape.replays == checked + 1
    # Each vector is copied once for all that want it, and states only for those that need them.
    expected = {"usual vectors": ["vectors"] * 2, "in other types": ["vectors"], "other vectors": ["states"]}
    expected |= {
        "states": ["states", "vectors"],
        "spans": ["states", "vectors"],
        "all": ["states", "vectors", "vectors"],
    }
    assert sorted(copied) == expected[kind]


def noting(method: Callable[..., Tensor], calls: list[str]) -> Callable[..., Tensor]:
    def noted(*arguments: object) -> Tensor:
        calls.append(method.__name__)
        return method(*arguments)

    return noted


@needs_compiler
def test_vectors_of_other_layers_and_of_large_batches_are_made_the_plain_way(program: ScriptedProgram) -> None:
    last = program.description.layers
    batches = [
        [vectors(1, [3, 9], Pooling("mean", (0,))), vectors(2, [5], Pooling("mean", (last,)))],
        [vectors(1, [3, 9], Pooling("mean", (0, last), "sum"))],
        [vectors(1, [100, 29], Pooling("mean", (last,)))],
    ]
    plain = [run(program, prepare(works, last)) for works in batches]
    tape = Tape()
    recorded = RecordedProgram(program, SHAPES, tape, CPU, limits_of(program))
    checked = tape.replays
    for works, want in zip(batches, plain, strict=True):
        torch.testing.assert_close(run(recorded, prepare(works, last)), want, atol=1e-5, rtol=0)
    assert tape.replays == checked


def test_without_attention_for_any_lengths_there_are_none(
    checkpoint: Callable[[str], Path],
    compile_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("BERTSTREAM_NATIVE", "0")
    program = ScriptedProgram.load(compile_model(checkpoint("bert"), cache=compile_cache), "cpu")
    assert record(program, CPU, 256, limits_of(program), Tape) is program
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert "CUDA graphs are not used" in line.message
    assert "equal length" in line.message


class Plain(FakeProgram):
    """Compute one layer, whose states are made of ids, types and places."""

    poolings = (Pooling("mean", (1,)), Pooling("mean", (1,), normalize=True))

    def __init__(self, wrong: float = 0.0, times: float = 1.0) -> None:
        super().__init__()
        self.wrong = wrong  # how much `last_states` is off, or not a number
        self.times = times  # the factor by which `pool_at` is wrong

    def hidden_states(
        self, ids: Tensor, type_ids: Tensor | None, lengths: list[int], layers: list[int]
    ) -> list[Tensor]:
        places = torch.cat([torch.arange(length) for length in lengths])
        types = torch.zeros_like(ids) if type_ids is None else type_ids
        return [torch.stack([ids + 1.0, types + 1.0, places + 1.0], dim=1)]

    def encode(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        poolings: frozenset[Pooling],
    ) -> Encoded:
        return Encoded({1: self.hidden_states(ids, type_ids, lengths, [1])[0]})

    def last_states(self, ids: Tensor, type_ids: Tensor | None, cu_seqlens: Tensor, longest: int) -> Tensor:
        lengths = [length for length in cu_seqlens.diff().tolist() if length]
        assert max(lengths) <= longest
        (states,) = self.hidden_states(ids, type_ids, lengths, [1])
        return states + torch.tensor([0.0, 0.0, self.wrong])

    def pool(self, states: Tensor, lengths: list[int], mode: str, skipped: int = 0) -> Tensor:
        return torch.stack([text.mean(0) for text in states.split(lengths)])

    def pool_at(self, states: Tensor, cu_seqlens: Tensor, mode: str) -> Tensor:
        lengths = cu_seqlens.diff()
        texts = int((lengths > 0).sum())
        assert lengths[:texts].all()  # the texts that nobody reads are behind the others, and have no tokens
        pooled = torch.zeros(len(lengths), states.size(1))
        pooled[:texts] = self.pool(states[: int(cu_seqlens[-1])], lengths[:texts].tolist(), mode)
        return pooled * self.times


LIMITS = Limits(vocabulary=50, types=2, max_tokens=512, last_layer=1)


def test_graphs_are_recorded_for_as_many_tokens_as_a_batch_has(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = record(Plain(), CPU, 1000, LIMITS, Tape)
    assert isinstance(found, RecordedProgram)
    assert "7 CUDA graphs for batches of up to 1024 tokens" in caplog.text
    assert found.replay(torch.arange(1000), None, [500, 500], [1]) is not None
    assert found.replay(torch.arange(1025), None, [500, 500, 25], [1]) is None


@pytest.mark.parametrize("program", [Plain(wrong=9.0), Plain(times=1.1)], ids=["states", "vectors"])
def test_graphs_that_give_other_numbers_are_not_used(program: Plain, caplog: pytest.LogCaptureFixture) -> None:
    assert record(program, CPU, 256, LIMITS, Tape) is program
    assert "other numbers" in caplog.text


def test_graphs_of_fp8_may_give_somewhat_other_numbers(caplog: pytest.LogCaptureFixture) -> None:
    coarse = replace(LIMITS, float8=True)
    assert isinstance(record(Plain(times=1.1), CPU, 256, coarse, Tape), RecordedProgram)
    assert isinstance(record(Plain(wrong=9.0), CPU, 256, coarse, Tape), Plain)
    assert "other numbers" in caplog.text


@pytest.mark.parametrize("program", [Plain(wrong=math.nan), Plain(times=math.nan)], ids=["states", "vectors"])
def test_graphs_that_give_no_numbers_are_not_used(program: Plain, caplog: pytest.LogCaptureFixture) -> None:
    assert record(program, CPU, 256, LIMITS, Tape) is program
    assert "not finite" in caplog.text


def test_graphs_that_do_not_read_their_input_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def frozen(device: torch.device) -> graphs.Recorder:
        return lambda recorded: (lambda: None, recorded())

    assert isinstance(record(Plain(), CPU, 256, LIMITS, frozen), Plain)
    assert "other numbers" in caplog.text


def test_a_recording_that_fails_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def broken(device: torch.device) -> graphs.Recorder:
        raise RuntimeError("Traceback\n  of TorchScript\nCUDA error: operation not permitted when stream is capturing")

    assert isinstance(record(Plain(), CPU, 256, LIMITS, broken), Plain)
    (line,) = caplog.records
    assert line.message.endswith(
        "small batches take longer: CUDA error: operation not permitted when stream is capturing"
    )


def test_the_switch(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(graphs.SWITCH, "0")
    caplog.set_level(logging.INFO)
    assert isinstance(record(Plain(), CPU, 256, LIMITS, Tape), Plain)
    assert "BERTSTREAM_GRAPHS=0" in caplog.text


@needs_compiler
def test_the_worker_records_at_its_start(program: ScriptedProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "CudaRecorder", Tape)
    recorded = process.record_graphs(program, 128)
    assert isinstance(recorded, RecordedProgram)
    process.run_small_batches(recorded, program.description, "cpu")


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
