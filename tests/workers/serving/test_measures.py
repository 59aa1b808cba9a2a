from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bertstream.workers.contract import BULK, INTERACTIVE, Batch, OutputOptions, Work
from bertstream.workers.measuring import worker_metrics as metrics
from bertstream.workers.measuring.instruments import Registry
from bertstream.workers.measuring.snapshots import Distribution, Snapshot
from bertstream.workers.serving.measures import WorkMeasures, queue_readings
from bertstream.workers.serving.queue import WorkQueue
from bertstream.workers.serving.scheduler import entry

OPTIONS = OutputOptions(("pooler_output",))


def work(*lengths: int, priority: int = INTERACTIVE) -> Work:
    batch = Batch(np.zeros(sum(lengths), np.int32), np.array(lengths, np.int32))
    return Work(1, batch, OPTIONS, priority, math.inf)


def distribution(snapshot: Snapshot, name: str, *labels: str) -> Distribution:
    return next(each for each in snapshot.distributions if each.key == (name, labels))


def test_a_batch_counts_its_tokens_texts_and_what_waited() -> None:
    registry = Registry()
    measures = WorkMeasures(registry, "tiny")
    entries = [entry(work(3, 5), None, 10.0), entry(work(8, priority=BULK), None, 9.0)]
    measures.computed(entries, 64, started=10.25, seconds=0.5)
    found = registry.snapshot()
    assert found.value(metrics.BATCH_TEXTS.name, "tiny") == 3
    assert distribution(found, metrics.BATCH_SIZE.name, "tiny").total == 16
    assert distribution(found, metrics.BATCH_FILL.name, "tiny").total == 0.25
    assert distribution(found, metrics.COMPUTE_DURATION.name, "tiny").total == 0.5
    queued = metrics.QUEUE_DURATION.name
    assert distribution(found, queued, "tiny", "encode", "interactive").total == pytest.approx(0.25)
    assert distribution(found, queued, "tiny", "encode", "bulk").total == pytest.approx(1.25)
    assert distribution(found, queued, "tiny", "encode", "bulk").count == 1


def test_failures_are_counted_by_any_thread() -> None:
    registry = Registry()
    measures = WorkMeasures(registry, "tiny")

    def fail(_: int) -> None:
        for _ in range(500):
            measures.failed("expired")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(fail, range(4)))
    assert registry.snapshot().value(metrics.FAILURES.name, "tiny", "expired") == 2000


def test_what_waits_is_read() -> None:
    queue, source = WorkQueue(1000, 64), object()
    queue.add(work(7), source)
    queue.add(replace(work(9, 2, priority=BULK), id=2), source)
    found: dict[tuple[Any, ...], float] = {(each.name, *each.labels): each.value for each in queue_readings(queue, "m")}
    assert found[metrics.QUEUE_TOKENS.name, "m", "encode", "interactive"] == 7
    assert found[metrics.QUEUE_TOKENS.name, "m", "encode", "bulk"] == 11
    assert found[metrics.QUEUE_WAIT.name, "m"] == found[metrics.FULL_BATCH.name, "m"] == 0  # nothing was measured yet
