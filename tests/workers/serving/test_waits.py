"""Test what the loop refuses, and what it says of waiting, with a program that takes as long as the clock is put on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bertstream.workers.contract import Failure, Result
from bertstream.workers.serving import queue as queue_module
from tests.support.overload import Clock
from tests.support.works import make_work
from tests.workers.serving.test_loop import Worker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the queue's clock, by which alone it tells how long batches take and what would be late."""
    made = Clock()
    monkeypatch.setattr(queue_module, "time", made)
    return made


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.program.gate.set()
    made.queue.close()


def test_what_would_be_late_is_refused_and_not_computed(worker: Worker, clock: Clock) -> None:
    worker.program.gate.clear()
    worker.loop.start()
    worker.add(1, [50])
    assert worker.program.entered.acquire(timeout=20)
    clock.now += 0.3
    worker.program.gate.set()
    assert isinstance(worker.connection.get(1)[1], Result)  # so 50 tokens take 0.3 s
    worker.program.gate.clear()
    worker.add(2, [50])
    assert worker.program.entered.acquire(timeout=20)
    refused = worker.queue.add(make_work(3, [50], deadline=clock.now + 0.05), worker.connection)
    worker.add(4, [50])
    worker.program.gate.set()
    answers = worker.connection.get(2)
    assert refused is not None
    assert refused.reason == "overloaded"
    assert 0.1 < refused.retry_seconds < 2
    assert refused.wait_seconds > 0.1
    assert [type(answers[number]) for number in (2, 4)] == [Result, Result]
    assert worker.program.lengths_seen == [[50]] * 3


def test_what_cannot_be_ready_any_more_when_its_turn_comes_is_answered_so(worker: Worker, clock: Clock) -> None:
    worker.program.gate.clear()
    worker.loop.start()
    worker.add(1, [50])
    assert worker.program.entered.acquire(timeout=20)
    worker.add(2, [50], deadline=clock.now + 1.4)  # nothing was measured yet
    worker.add(3, [40])
    clock.now += 1.0
    worker.program.gate.set()
    answers = worker.connection.get(3)
    failure = answers[2]
    assert isinstance(failure, Failure)
    assert failure.reason == "overloaded"
    assert failure.retry_seconds > 0
    assert isinstance(answers[3], Result)


def test_an_answer_says_how_long_others_would_wait(worker: Worker, clock: Clock) -> None:
    worker.program.gate.clear()
    worker.loop.start()
    worker.add(1, [100])
    assert worker.program.entered.acquire(timeout=20)
    for number in (2, 3):
        worker.add(number, [100])
    clock.now += 0.2
    worker.program.gate.set()
    found = worker.connection.get(3)
    waits = [answer.wait_seconds for _, answer in sorted(found.items())]
    assert waits[0] > 0.2  # for two batches, one of which took 0.2 s
    assert waits[2] == 0
