"""Test that the next batch is launched while a GPU computes one; the test says when launches are done."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import Tensor

from bertstream.workers.contract import BULK, Failure, OutputOptions, Result
from bertstream.workers.engine import engine as engine_module
from bertstream.workers.engine.batch import Prepared
from bertstream.workers.engine.engine import Launched
from bertstream.workers.programs.interface import Program
from bertstream.workers.serving import loop as loop_module
from bertstream.workers.serving.running_record import read_running
from tests.workers.serving.test_loop import BAD, Worker

STATES = OutputOptions(("last_hidden_state",))


class Gpu:
    """Note what is launched and landed, by the first id of each batch; the test says which are done."""

    def __init__(self) -> None:
        self.events: queue.Queue[str] = queue.Queue()
        self.allowed: set[int] = set()
        self.broken: Exception | None = None

    def launch(self, program: Program, batch: Prepared) -> Flying:
        name = int(batch.ids[0])
        self.events.put(f"launch {name}")
        return Flying(self, name, engine_module.launch(program, batch))

    def expect(self, *events: str) -> None:
        assert [self.events.get(timeout=20) for _ in events] == list(events)


class Flying:
    def __init__(self, gpu: Gpu, name: int, launched: Launched) -> None:
        self._gpu, self._name, self._launched = gpu, name, launched

    @property
    def done(self) -> bool:
        return self._name in self._gpu.allowed

    def outputs(self) -> list[dict[str, Tensor]]:
        deadline = time.monotonic() + 20
        while not self.done:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        if self._gpu.broken:
            raise self._gpu.broken
        self._gpu.events.put(f"land {self._name}")
        return self._launched.outputs()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made = Gpu()
    monkeypatch.setattr(loop_module, "launch", made.launch)
    return made


@pytest.fixture
def worker(tmp_path: Path, gpu: Gpu) -> Iterator[Worker]:
    made = Worker(tmp_path)
    made.loop.overlaps = True
    yield made
    gpu.allowed |= set(range(10_000))
    made.program.gate.set()
    made.queue.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_large_batch_is_answered_once_the_next_is_launched(worker: Worker, gpu: Gpu) -> None:
    for number in (1, 2, 3):
        worker.add(number, [100], priority=BULK, first_id=number * 1000)
    worker.loop.start()
    gpu.expect("launch 1000", "launch 2000")
    until(lambda: read_running(worker.record) == {(4, 1), (4, 2)})
    gpu.allowed.add(1000)
    gpu.expect("land 1000", "launch 3000")
    until(lambda: read_running(worker.record) == {(4, 2), (4, 3)})
    assert worker.loop.computing_seconds > 0
    gpu.allowed |= {2000, 3000}
    gpu.expect("land 2000", "land 3000")
    answers = worker.connection.get(3)
    assert all(isinstance(answer, Result) for answer in answers.values())
    until(lambda: read_running(worker.record) == frozenset())
    assert worker.loop.computing_seconds == 0


def test_vectors_are_those_of_the_plain_way(tmp_path: Path, gpu: Gpu, worker: Worker) -> None:
    gpu.allowed |= {1, 7}
    (tmp_path / "plain").mkdir()
    plain = Worker(tmp_path / "plain")
    found = []
    for each in (worker, plain):
        each.add(1, [60, 40], priority=BULK)
        each.add(2, [50, 3, 47], priority=BULK, first_id=7)
        each.loop.start()
        found.append(each.connection.get(2))
    plain.queue.close()
    for number in (1, 2):
        got, want = (answers[number] for answers in found)
        assert isinstance(got, Result)
        assert isinstance(want, Result)
        assert (got.tensors["pooled"] == want.tensors["pooled"]).all()


def test_a_small_batch_is_answered_before_another_is_launched(worker: Worker, gpu: Gpu) -> None:
    worker.add(1, [20], first_id=1000)
    worker.loop.start()
    gpu.expect("launch 1000")
    worker.add(2, [20], first_id=2000)
    worker.add(3, [19], first_id=3000)
    gpu.allowed |= {1000, 2000}
    gpu.expect("land 1000", "launch 2000", "land 2000")
    assert set(worker.connection.get(3)) == {1, 2, 3}
    assert worker.program.lengths_seen == [[20], [20, 19]]


def test_interactive_work_is_launched_behind_the_batch_at_hand_where_another_is_prepared(
    worker: Worker, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = threading.Event()
    real = worker.loop.prepared.empty
    monkeypatch.setattr(worker.loop.prepared, "empty", lambda: not looking.is_set() or real())
    for number in (1, 2):
        worker.add(number, [100], priority=BULK, first_id=number * 1000)
    worker.loop.start()
    gpu.expect("launch 1000")
    until(lambda: not real())
    worker.add(3, [5], first_id=3000)
    looking.set()
    gpu.expect("launch 3000")
    gpu.allowed |= {1000, 2000, 3000}
    gpu.expect("land 1000", "land 3000", "launch 2000", "land 2000")
    assert set(worker.connection.get(3)) == {1, 2, 3}


def test_what_is_more_than_vectors_is_computed_after_the_batch_at_hand(worker: Worker, gpu: Gpu) -> None:
    gpu.allowed.add(1000)
    worker.add(1, [100], priority=BULK, first_id=1000)
    worker.add(2, [100], priority=BULK, first_id=2000, output_options=STATES)
    worker.loop.start()
    gpu.expect("launch 1000", "land 1000")
    answers = worker.connection.get(2)
    assert isinstance(answers[2], Result)
    assert gpu.events.empty()


def test_a_batch_that_cannot_be_launched_fails_alone(worker: Worker, gpu: Gpu) -> None:
    worker.add(1, [100], priority=BULK, first_id=1000)
    worker.add(2, [50], priority=BULK, first_id=BAD)
    worker.add(3, [50], priority=BULK, first_id=3000)
    worker.loop.start()
    gpu.expect("launch 1000", f"launch {BAD}")
    gpu.allowed.add(1000)
    gpu.expect("land 1000")
    answers = worker.connection.get(3)
    assert answers[2] == Failure(2, "internal", "the model could not compute this")
    assert isinstance(answers[1], Result)
    assert isinstance(answers[3], Result)
    until(lambda: read_running(worker.record) == frozenset())


def test_an_error_of_the_gpu_ends_the_thread_and_leaves_both_batches_in_the_record(worker: Worker, gpu: Gpu) -> None:
    ended: queue.Queue[threading.ExceptHookArgs] = queue.Queue()
    gpu.broken = RuntimeError("CUDA error: an illegal memory access was encountered")
    previous, threading.excepthook = threading.excepthook, ended.put
    try:
        for number in (1, 2):
            worker.add(number, [100], priority=BULK, first_id=number * 1000)
        worker.loop.start()
        gpu.expect("launch 1000", "launch 2000")
        gpu.allowed.add(1000)
        assert ended.get(timeout=20).exc_value is gpu.broken
    finally:
        threading.excepthook = previous
    assert read_running(worker.record) == {(4, 1), (4, 2)}


def test_an_answer_that_cannot_be_read_fails_its_batch(worker: Worker, gpu: Gpu) -> None:
    gpu.broken = MemoryError("no memory")
    gpu.allowed.add(1000)
    worker.add(1, [100], first_id=1000)
    worker.loop.start()
    answer = worker.connection.get(1)[1]
    assert isinstance(answer, Failure)
    assert answer.reason == "out_of_memory"


def test_a_batch_that_cannot_be_read_is_computed_again_in_halves(worker: Worker, gpu: Gpu) -> None:
    gpu.broken = MemoryError("no memory")
    gpu.allowed.add(1000)
    for number in (1, 2):
        worker.add(number, [40], first_id=1000)
    worker.loop.start()
    answers = worker.connection.get(2)
    assert all(isinstance(answer, Result) for answer in answers.values())
    assert read_running(worker.record) == frozenset()


def test_what_is_under_way_at_the_end_is_answered(worker: Worker, gpu: Gpu) -> None:
    worker.add(1, [100], first_id=1000)
    worker.loop.start()
    gpu.expect("launch 1000")
    worker.queue.close()
    gpu.allowed.add(1000)
    assert isinstance(worker.connection.get(1)[1], Result)
