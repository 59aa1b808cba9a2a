"""Test, on a GPU, CUDA graphs, batches in flight, and copies that are not waited for."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs

from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.contract import BULK, Batch, OutputOptions, Pooling, Result, Work
from bertstream.workers.engine.batch import prepare
from bertstream.workers.engine.copies import to_device, to_host
from bertstream.workers.engine.engine import launch, run
from bertstream.workers.engine.graphs import RecordedProgram
from bertstream.workers.engine.outputs import finish
from bertstream.workers.engine.sessions import Sessions
from bertstream.workers.models.segments import segments
from bertstream.workers.process.worker import record_graphs, run_small_batches
from bertstream.workers.programs.description import DefaultPooling
from bertstream.workers.programs.program import ScriptedProgram
from bertstream.workers.serving.connections import Reply
from bertstream.workers.serving.loop import EngineLoop
from bertstream.workers.serving.queue import WorkQueue
from bertstream.workers.serving.running_record import Computing, RunningRecord
from tests.support.checkpoints import tiny_bert, tiny_roberta

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

NEAR = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.15}
BATCHES = [[1], [100], [128], [512, 200, 3, 1], [9] * 16, [60] * 30, [1] * 40, [512] * 15]


def loaded(folder: Path, dtype: str, maker: Callable[..., Path] = tiny_bert) -> ScriptedProgram:
    directory = maker(folder / "checkpoint", hidden_size=48, num_attention_heads=3)
    return ScriptedProgram.load(compile_model(directory, dtype=dtype, device="cuda", cache=folder), "cuda")


def random_ids(tokens: int) -> torch.Tensor:
    return torch.randint(5, 300, (tokens,), generator=torch.Generator().manual_seed(tokens), dtype=torch.int32)


@pytest.mark.parametrize("maker", [tiny_bert, tiny_roberta])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_replayed_batches_equal_plain_ones(maker: Callable[..., Path], dtype: str, tmp_path: Path) -> None:
    program = loaded(tmp_path, dtype, maker)
    last = [program.description.layers]
    ids = [random_ids(sum(lengths)).cuda() for lengths in BATCHES]
    plain = [program.hidden_states(each, None, lengths, last)[0] for each, lengths in zip(ids, BATCHES, strict=True)]
    recorded = record_graphs(program, 16384)
    assert isinstance(recorded, RecordedProgram)
    run_small_batches(recorded, program.description, "cuda")
    for _ in range(2):  # in turns, so that each graph follows the others
        for each, lengths, want in zip(ids, BATCHES, plain, strict=True):
            found = recorded.replay(each, None, lengths, last)
            assert found is not None
            (states,) = found.states.values()
            assert float((states - want).abs().max()) <= NEAR[dtype]
            assert torch.equal(states, recorded.encode(each, None, lengths, last, frozenset()).states[last[0]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_vectors_beside_the_states_equal_plain_ones(dtype: str, tmp_path: Path) -> None:
    program = loaded(tmp_path, dtype)
    last, modes = program.description.layers, ("cls", "mean", "max", "mean_sqrt_len", "last_token")
    ids = [random_ids(sum(lengths)).cuda() for lengths in BATCHES]
    for mode in modes:
        program.description = structs.replace(program.description, default_pooling=DefaultPooling(mode))
        plain = [
            program.hidden_states(each, None, lengths, [last])[0] for each, lengths in zip(ids, BATCHES, strict=True)
        ]
        recorded = record_graphs(program, 16384)
        assert isinstance(recorded, RecordedProgram)
        assert recorded.recorded == set(program.poolings)
        for each, lengths, states in zip(ids, BATCHES, plain, strict=True):
            found = recorded.replay(each, None, lengths, [], recorded.recorded)
            assert found is not None
            assert not found.states
            pooled = program.pool(states.float(), lengths, mode)
            for pooling, vectors in found.vectors.items():
                want = finish(pooling, pooled)
                assert vectors.shape == want.shape
                assert float((vectors - want).norm(dim=1).max() / want.norm(dim=1).min()) <= NEAR[dtype]


def test_works_that_want_different_things_of_one_replay(tmp_path: Path) -> None:
    program = loaded(tmp_path, "float16")
    last = program.description.layers
    works = [bulk_work(number, program) for number in (1, 2, 3)]
    works[1] = replace(
        works[1], output_options=OutputOptions(("last_hidden_state", "pooled"), Pooling("mean", (last,)))
    )
    works[2] = replace(works[2], output_options=OutputOptions(("pooled",), Pooling("max", (last,), normalize=True)))
    plain = run(program, prepare(works, last, "cuda"))
    recorded = record_graphs(program, 16384)
    for _ in range(2):
        for found, want in zip(run(recorded, prepare(works, last, "cuda")), plain, strict=True):
            torch.testing.assert_close(found, want, atol=NEAR["float16"], rtol=0)


def test_what_cannot_be_recorded_is_told_and_computed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = loaded(tmp_path, "float32")  # its attention takes runs of equal length
    assert record_graphs(program, 16384) is program
    assert "CUDA graphs are not used" in caplog.text
    run_small_batches(program, program.description, "cuda")


def test_a_recording_that_breaks_leaves_the_program_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = loaded(tmp_path, "float16")
    real = program.last_states

    def waits(*args: object) -> torch.Tensor:
        states: torch.Tensor = real(*args)  # type: ignore[arg-type]
        states.sum().item()  # not allowed while a graph is recorded
        return states

    monkeypatch.setattr(program, "last_states", waits)
    assert record_graphs(program, 1024) is program
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "CUDA graphs are not used" in line.message
    run_small_batches(program, program.description, "cuda")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pooled_by_one_kernel_as_on_the_cpu(dtype: str, tmp_path: Path) -> None:
    program, lengths = loaded(tmp_path, dtype), [512, 7, 7, 7, 3, 1]
    states = torch.randn(sum(lengths), 48, generator=torch.Generator().manual_seed(1))
    parts = states.split(lengths)
    starts = torch.tensor([0, *lengths, 0]).cumsum(0).to(torch.int32).cuda()  # the last text has no tokens
    wanted = {
        "mean": torch.stack([part.mean(0) for part in parts]),
        "mean_sqrt_len": torch.stack([part.sum(0) / len(part) ** 0.5 for part in parts]),
        "max": torch.stack([part.amax(0) for part in parts]),
        "cls": torch.stack([part[0] for part in parts]),
        "last_token": torch.stack([part[-1] for part in parts]),
    }
    for mode, want in wanted.items():
        torch.testing.assert_close(program.pool(states.cuda(), lengths, mode).cpu(), want, atol=1e-5, rtol=1e-5)
        found = program.pool_at(states.cuda(), starts, mode).cpu()
        torch.testing.assert_close(found[:-1], want, atol=1e-5, rtol=1e-5)
        assert not bool(found[-1].any())


def test_layouts_are_those_of_the_cpu() -> None:
    lengths = [5, 5, 3, 1, 512]
    found, want = segments(lengths, torch.device("cuda")), segments(lengths, torch.device("cpu"))
    for name in ("lengths", "starts", "cu_seqlens"):
        assert torch.equal(getattr(found, name).cpu(), getattr(want, name))
    assert (found.longest, found.runs) == (want.longest, want.runs)


def test_copies_arrive() -> None:
    values = torch.randn(1000, 100)
    there = to_device(values, "cuda")
    back = to_host(there * 2)
    assert back.is_pinned()
    torch.cuda.synchronize()
    assert torch.equal(back, values * 2)


class Connection:
    number = 1

    def __init__(self) -> None:
        self.answers: queue.Queue[Reply] = queue.Queue()

    def reply(self, make: Callable[[], Reply]) -> None:
        self.answers.put(make())

    reply_at_once = reply


def bulk_work(number: int, program: ScriptedProgram) -> Work:
    lengths = [1 + (number * 37 + i * 13) % 200 for i in range(10)]
    batch = Batch(random_ids(sum(lengths)).numpy(), np.array(lengths, np.int32))
    output_options = OutputOptions(("pooled",), Pooling("mean", (program.description.layers,), normalize=True))
    return Work(number, batch, output_options, BULK)


def test_batches_in_flight_give_each_work_its_own(tmp_path: Path) -> None:
    program = loaded(tmp_path, "float16")
    works = [bulk_work(number, program) for number in range(60)]
    plain = [run(program, prepare([work], program.description.layers, "cuda"))[0]["pooled"] for work in works]
    recorded = record_graphs(program, 2048)
    waiting, connection = WorkQueue(1 << 20, 2048), Connection()
    computing = Computing(RunningRecord(tmp_path / "running"))
    loop = EngineLoop(recorded, waiting, computing, Sessions(1 << 20), program.description.layers, "cuda")
    for work in works:
        assert waiting.add(work, connection)
    loop.start()
    answers = [connection.answers.get(timeout=60) for _ in works]
    waiting.close()
    for answer in answers:
        assert isinstance(answer, Result)
        assert float(np.abs(answer.tensors["pooled"] - plain[answer.id].numpy()).max()) <= 0.01
    assert loop.computing_seconds == 0


def test_a_launch_is_done_when_it_says_so(tmp_path: Path) -> None:
    program = loaded(tmp_path, "float16")
    launched = launch(program, prepare([bulk_work(3, program)], program.description.layers, "cuda"))
    (found,) = launched.outputs()
    assert launched.done
    assert found["pooled"].shape == (10, 48)
