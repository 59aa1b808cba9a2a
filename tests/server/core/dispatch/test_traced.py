from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.server.core.dispatch import Dispatcher, Job
from bertstream.server.core.dispatch.traced import fitted
from bertstream.server.core.tracing import RecordedSpan, Trace, Tracer
from bertstream.workers.contract import Batch, Failure, OutputOptions, Result, Work
from tests.support.fake_worker import FakeWorker, echo

JOB = Job(Batch(np.array([5, 6], np.int32), np.array([2], np.int32)), OutputOptions(("pooled",)))


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[FakeWorker]:
    made = FakeWorker(tmp_path / "0.socket")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def dispatcher(worker: FakeWorker) -> AsyncIterator[Dispatcher]:
    made = Dispatcher([str(worker.path)], 10.0, lambda: None)
    await made.wait_live()
    yield made
    await made.close()


async def trace_of(dispatcher: Dispatcher) -> tuple[list[Any], list[RecordedSpan]]:
    traces: list[Trace] = []
    with Tracer(1.0, traces.append).begin("call", None):
        outcomes = await dispatcher.run(JOB)
    return outcomes, traces[0].spans[1:]


def quick(work: Work) -> Result:
    return Result(work.id, echo(work).tensors, 0.0, 1e-6)


async def test_an_attempt_has_the_worker_s_own_seconds(worker: FakeWorker, dispatcher: Dispatcher) -> None:
    worker.answer = quick
    _, (attempt, queue, compute) = await trace_of(dispatcher)
    assert [attempt.name, queue.name, compute.name] == ["attempt", "queue", "compute"]
    assert attempt.attributes == {"worker": "worker-0", "pid": 1}
    assert queue.parent_id == compute.parent_id == attempt.ids[1]
    assert attempt.start <= queue.start <= queue.end == compute.start <= compute.end <= attempt.end
    assert compute.seconds == pytest.approx(1e-6, abs=1e-7)  # a clock that has run for months is no finer


async def test_seconds_that_cannot_be_are_cut(worker: FakeWorker, dispatcher: Dispatcher) -> None:
    worker.answer = lambda work: Result(work.id, echo(work).tensors, 1000.0, 2000.0)
    _, (attempt, queue, compute) = await trace_of(dispatcher)
    assert attempt.seconds < 1000.0
    assert queue.seconds + compute.seconds <= attempt.seconds


async def test_a_lost_worker_is_one_attempt_and_the_next_another(worker: FakeWorker, dispatcher: Dispatcher) -> None:
    worker.answer = lambda work: None

    async def die() -> None:
        await worker.wait_for(1)
        await worker.kill([worker.works[0].id])
        worker.answer = quick
        await worker.start()

    (outcomes, spans), _ = await asyncio.gather(trace_of(dispatcher), die())
    assert outcomes[0].error is None
    assert [(span.name, span.error) for span in spans if span.name == "attempt"] == [
        ("attempt", "WORKER_LOST"),
        ("attempt", ""),
    ]
    assert spans[0].attributes["computing"] is True


async def test_a_worker_s_failure_is_the_attempt_s(worker: FakeWorker, dispatcher: Dispatcher) -> None:
    worker.answer = lambda work: Failure(work.id, "expired", "too late")
    _, (attempt,) = await trace_of(dispatcher)
    assert attempt.error == "EXPIRED"


@pytest.mark.parametrize(
    ("given", "expected"),
    [((1.0, 2.0, 4.0), (1.0, 2.0)), ((1.0, 2.0, 2.5), (1.0, 1.5)), ((3.0, 2.0, 2.5), (2.5, 0.0))],
)
def test_what_a_worker_tells_fits_into_the_attempt(
    given: tuple[float, float, float], expected: tuple[float, float]
) -> None:
    assert fitted(*given) == expected
