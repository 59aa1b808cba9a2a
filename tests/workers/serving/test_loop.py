from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bertstream.workers.contract import BULK, INTERACTIVE, Completed, Failure, Generated, Result
from bertstream.workers.engine import batch as batch_module
from bertstream.workers.engine import engine as engine_module
from bertstream.workers.engine import failures
from bertstream.workers.engine.failures import is_fatal, is_out_of_memory
from bertstream.workers.engine.sessions import Sessions
from bertstream.workers.generation.generator import Generator
from bertstream.workers.programs.interface import Program
from bertstream.workers.serving import loop as loop_module
from bertstream.workers.serving.connections import Reply
from bertstream.workers.serving.loop import EngineLoop
from bertstream.workers.serving.queue import WorkQueue
from bertstream.workers.serving.running_record import Computing, RunningRecord, read_running
from tests.support.generation import Bench, HistoryProgram, Ids, answers_of, make_generate
from tests.support.works import LAST_LAYER, FakeProgram, make_work

BAD = 666  # a text with this id breaks its batch


class FakeConnection:
    """Collect the answers."""

    def __init__(self) -> None:
        self.number = 4
        self.answers: queue.Queue[Reply] = queue.Queue()

    def reply(self, make: Callable[[], Reply]) -> None:
        self.answers.put(make())

    reply_at_once = reply

    def get(self, count: int) -> dict[int, Result | Completed | Failure]:
        answers = [self.answers.get(timeout=20) for _ in range(count)]
        return {answer.id: answer for answer in answers if not isinstance(answer, Generated)}


class Scripted(FakeProgram):
    """Fail for the bad id, and wait at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception = RuntimeError("broken")
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def hidden_states(
        self, ids: Tensor, type_ids: Tensor | None, lengths: list[int], layers: list[int]
    ) -> list[Tensor]:
        self.entered.release()
        assert self.gate.wait(20)
        if bool((ids == BAD).any()):
            self.lengths_seen.append(lengths)
            raise self.error
        return super().hidden_states(ids, type_ids, lengths, layers)


class Worker:
    def __init__(self, directory: Path, batch_tokens: int = 100, generator: Generator | None = None) -> None:
        self.program = Scripted()
        self.queue = WorkQueue(10_000, batch_tokens)
        self.record = directory / "running"
        computing = Computing(RunningRecord(self.record))
        sessions = Sessions(1 << 20)
        self.loop = EngineLoop(self.program, self.queue, computing, sessions, LAST_LAYER, generator=generator)
        self.connection = FakeConnection()

    def add(self, work_id: int, *args: Any, **kwargs: Any) -> None:
        assert self.queue.add(make_work(work_id, *args, **kwargs), self.connection) is None


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.program.gate.set()
    made.queue.close()


def test_waiting_work_is_computed_as_one_batch(worker: Worker) -> None:
    for i in range(5):
        worker.add(i, [2, 3])
    worker.loop.start()
    answers = worker.connection.get(5)
    assert all(isinstance(answer, Result) for answer in answers.values())
    assert sorted(answers) == list(range(5))
    assert worker.program.lengths_seen == [[3] * 5 + [2] * 5]
    assert worker.loop.batches == 1


def test_the_engine_s_own_thread_warms_up_before_it_begins(worker: Worker) -> None:
    worker.add(0, [2])
    seen: list[tuple[str, int]] = []
    warm = FakeProgram()

    def warm_up(program: Program) -> Program:
        assert program is worker.program
        seen.append((threading.current_thread().name, worker.loop.batches))
        return warm

    worker.loop.start(warm_up)
    assert seen == [("engine", 0)]
    assert isinstance(worker.connection.get(1)[0], Result)
    assert warm.lengths_seen == [[2]]  # what runs from then on is the program that warm_up returns
    assert worker.program.lengths_seen == []


def test_only_interactive_work_is_in_a_hurry_and_only_if_nothing_else_waits(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurries: list[bool] = []

    def begin(computing: Computing, keys: Any, *, hurry: bool = False) -> float:
        hurries.append(hurry)
        return time.monotonic()

    monkeypatch.setattr(Computing, "begin", begin)
    worker.loop.start()
    for number, priority in enumerate([INTERACTIVE, BULK]):
        worker.add(number, [2], priority=priority)
        worker.connection.get(1)
    assert hurries == [True, False]
    worker.program.gate.clear()
    worker.add(2, [60])
    while len(hurries) < 3:
        assert worker.program.entered.acquire(timeout=20)
    worker.add(3, [60])  # a batch each
    worker.add(4, [60])
    worker.program.gate.set()
    worker.connection.get(3)
    assert hurries[2:] == [True, False, True]


def test_a_failing_warm_up_is_the_starter_s(worker: Worker) -> None:
    with pytest.raises(IndexError):
        worker.loop.start(lambda _: [][0])


def test_work_that_fails_fails_alone(worker: Worker) -> None:
    for i in range(7):
        worker.add(i, [2], first_id=BAD if i == 3 else 1)
    worker.loop.start()
    answers = worker.connection.get(7)
    assert answers[3] == Failure(3, "internal", "the model could not compute this")
    assert all(isinstance(answers[i], Result) for i in range(7) if i != 3)
    worker.add(8, [2])
    assert isinstance(worker.connection.get(1)[8], Result)
    assert read_running(worker.record) == frozenset()
    assert worker.loop.computing_seconds == 0.0


def test_memory_that_runs_out_is_said_to_have(worker: Worker) -> None:
    worker.program.error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    worker.add(1, [2], first_id=BAD)
    worker.add(2, [2])
    worker.loop.start()
    answers = worker.connection.get(2)
    failure = answers[1]
    assert isinstance(failure, Failure)
    assert failure.reason == "out_of_memory"
    assert isinstance(answers[2], Result)


def test_a_batch_that_cannot_be_prepared_fails_alone_too(worker: Worker) -> None:
    work = make_work(2, [3])
    object.__setattr__(work.batch, "lengths", work.batch.lengths + 100)  # more tokens than there are
    worker.add(1)
    assert worker.queue.add(work, worker.connection) is None
    worker.add(3)
    worker.loop.start()
    answers = worker.connection.get(3)
    assert isinstance(answers[2], Failure)
    assert isinstance(answers[1], Result)
    assert isinstance(answers[3], Result)


def test_the_tensors_of_a_failed_batch_are_gone_before_its_halves_are_run(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the halves of a batch that ran out of memory would run out of it too."""
    kept: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def run(program: object, batch: object, *_: object) -> object:
        alive.append(sum(ref() is not None for ref in kept))
        states = torch.zeros(10)
        kept.append(weakref.ref(states))
        raise RuntimeError("broken")

    monkeypatch.setattr(loop_module, "run", run)
    monkeypatch.setattr(failures.log, "disabled", True)  # pytest keeps what is logged
    for i in range(4):
        worker.add(i)
    worker.loop.start()
    worker.connection.get(4)
    assert alive == [0] * 7


def test_what_expired_while_it_waited_is_not_computed(worker: Worker) -> None:
    worker.add(1, deadline=time.monotonic() - 1)
    worker.add(2)
    worker.loop.start()
    answers = worker.connection.get(2)
    assert answers[1] == Failure(1, "expired", "the deadline passed while the work waited")
    assert isinstance(answers[2], Result)
    assert worker.program.lengths_seen == [[3]]


def test_the_next_batch_is_prepared_while_one_computes(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = threading.Semaphore(0)
    real = batch_module.prepare

    def prepare(*args: Any, **kwargs: Any) -> Any:
        made = real(*args, **kwargs)
        prepared.release()
        return made

    monkeypatch.setattr(loop_module, "prepare", prepare)
    worker.program.gate.clear()
    worker.add(1, [100])
    worker.loop.start()
    assert worker.program.entered.acquire(timeout=20)
    assert prepared.acquire(timeout=20)
    worker.add(2, [60])
    worker.add(3, [40])
    assert prepared.acquire(timeout=20)  # though the first still computes
    assert read_running(worker.record) == {(4, 1)}
    assert worker.loop.computing_seconds > 0
    worker.program.gate.set()
    assert set(worker.connection.get(3)) == {1, 2, 3}
    assert worker.program.lengths_seen == [[100], [60, 40]]


def test_interactive_work_waits_for_the_batch_at_hand_and_for_no_other(worker: Worker) -> None:
    worker.program.gate.clear()
    for number, length in ((1, 100), (2, 99), (3, 98)):
        worker.add(number, [length], priority=BULK)
    worker.loop.start()
    assert worker.program.entered.acquire(timeout=20)
    worker.add(10, [5])
    worker.add(11, [4])
    worker.program.gate.set()
    assert set(worker.connection.get(5)) == {1, 2, 3, 10, 11}
    assert worker.program.lengths_seen[:2] == [[100], [5, 4]]
    assert sum(map(len, worker.program.lengths_seen)) == 5


def test_queue_and_compute_times_add_up(worker: Worker) -> None:
    worker.program.gate.clear()
    before = time.monotonic()
    worker.add(1, [100])
    worker.loop.start()
    assert worker.program.entered.acquire(timeout=20)
    worker.program.gate.set()
    result = worker.connection.get(1)[1]
    assert isinstance(result, Result)
    assert result.queue_seconds >= 0
    assert result.compute_seconds > 0
    assert result.queue_seconds + result.compute_seconds <= time.monotonic() - before


def test_an_error_of_the_gpu_itself_ends_the_thread_and_leaves_the_record(worker: Worker) -> None:
    ended: queue.Queue[threading.ExceptHookArgs] = queue.Queue()
    worker.program.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    previous, threading.excepthook = threading.excepthook, ended.put
    try:
        worker.add(1, [2], first_id=BAD)
        worker.loop.start()
        assert "illegal memory access" in str(ended.get(timeout=20).exc_value)
    finally:
        threading.excepthook = previous
    assert read_running(worker.record) == {(4, 1)}
    assert worker.connection.answers.empty()


class Noting(HistoryProgram):
    """Note each step among what else is computed; a step may be held up."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def logits(self, source: Ids | None, tokens: Ids) -> Tensor:
        self.events.append("step")
        self.entered.release()
        assert self.gate.wait(20)
        return super().logits(source, tokens)


class Generating:
    """Run a worker that also generates, and note the order of what it computes."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.text = Noting(self.events)
        self.bench = Bench(directory, self.text)
        self.worker = Worker(directory, generator=self.bench.generator)

        def run(*args: Any) -> Any:
            self.events.append("batch")
            return engine_module.run(*args)

        monkeypatch.setattr(loop_module, "run", run)
        self.connection = self.worker.connection

    def generate(self, work_id: int, **options: Any) -> None:
        assert self.bench.queue.add(make_generate(work_id, **options), self.connection) is None


@pytest.fixture
def generating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Generating]:
    made = Generating(tmp_path, monkeypatch)
    yield made
    made.text.gate.set()
    made.worker.queue.close()


def test_an_idle_worker_generates_at_once(generating: Generating, tmp_path: Path) -> None:
    generating.worker.loop.start()
    for number in range(5):  # again and again idle in between
        generating.generate(number)
        completed = generating.connection.get(1)[number]
        assert isinstance(completed, Completed)
        assert answers_of(completed) == answers_of(Bench(tmp_path).run(make_generate(number))[0])
    assert generating.worker.loop.computing_seconds == 0


def test_steps_and_batches_take_turns(generating: Generating) -> None:
    """Neither waits for more than one of the other, however much there is to do."""
    generating.text.gate.clear()
    generating.worker.loop.start()
    generating.generate(1, max_new_tokens=40)
    assert generating.text.entered.acquire(timeout=20)
    for number in range(10, 20):
        generating.worker.add(number, alone=True)  # a batch each
    generating.text.gate.set()
    answers = generating.connection.get(11)
    assert isinstance(answers[1], Completed)
    assert all(isinstance(answers[number], Result) for number in range(10, 20))
    # The first turn computes the prompt and a step.
    assert generating.events[2:22] == ["batch", "step"] * 10


def test_what_comes_during_a_step_is_one_batch_after_it(generating: Generating) -> None:
    generating.text.gate.clear()
    generating.worker.loop.start()
    generating.generate(1, max_new_tokens=3)
    assert generating.text.entered.acquire(timeout=20)
    for number in range(10, 14):
        generating.worker.add(number, [5])
    generating.worker.add(14, deadline=time.monotonic() - 1)
    generating.text.gate.set()
    answers = generating.connection.get(6)
    assert generating.worker.program.lengths_seen == [[5] * 4]
    assert isinstance(answers[14], Failure)
    assert generating.events == ["step", "step", "batch", "step"]


def test_beside_steps_interactive_work_goes_before_bulk_work_that_is_prepared(generating: Generating) -> None:
    generating.text.gate.clear()
    generating.worker.loop.start()
    generating.generate(1, max_new_tokens=8)
    assert generating.text.entered.acquire(timeout=20)
    for number, length in ((10, 100), (11, 99)):
        generating.worker.add(number, [length], priority=BULK)
    generating.worker.add(12, [5])
    generating.text.gate.set()
    generating.connection.get(4)
    assert generating.worker.program.lengths_seen == [[5], [100], [99]]
    # After a step there may be no batch, where the next one is still being prepared.
    assert [event for event in generating.events if event == "batch"] == ["batch"] * 3


def test_a_broken_batch_between_steps_fails_alone(generating: Generating) -> None:
    generating.text.gate.clear()
    generating.worker.loop.start()
    generating.generate(1)
    assert generating.text.entered.acquire(timeout=20)
    generating.worker.add(10, [2], first_id=BAD)
    generating.worker.add(11, [2])
    generating.text.gate.set()
    answers = generating.connection.get(3)
    assert [type(answers[number]) for number in (1, 10, 11)] == [Completed, Failure, Result]


def test_an_engine_that_generates_ends_when_the_queue_is_closed(generating: Generating) -> None:
    others = set(threading.enumerate())
    generating.text.gate.clear()
    generating.worker.loop.start()
    (engine,) = [each for each in set(threading.enumerate()) - others if each.name == "engine"]
    generating.generate(1, max_new_tokens=400)
    assert generating.text.entered.acquire(timeout=20)
    generating.worker.queue.close()
    generating.text.gate.set()
    engine.join(20)
    assert not engine.is_alive()
    assert generating.connection.answers.empty()


@torch.jit.script
def take_memory(size: int) -> Tensor:
    return torch.empty([size])


def test_which_errors_are_about_memory() -> None:
    for allocate in (torch.empty, take_memory):
        with pytest.raises(RuntimeError) as raised:
            allocate(10**15)
        assert is_out_of_memory(raised.value)
    within_a_program = (
        "The following operation failed in the TorchScript interpreter.\nRuntimeError: CUDA out of memory."
    )
    assert is_out_of_memory(RuntimeError(within_a_program))
    assert is_out_of_memory(torch.AcceleratorError("CUDA error: out of memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_which_errors_are_fatal() -> None:
    assert is_fatal(RuntimeError("CUDA error: device-side assert triggered"))
    assert is_fatal(torch.AcceleratorError("device-side assert"))
    assert not is_fatal(torch.AcceleratorError("CUDA error: out of memory"))
    assert not is_fatal(RuntimeError("shape mismatch"))
