"""What a worker counts and times of its work: the queue, batches, and what was not computed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from bertstream.workers.contract import BULK, INTERACTIVE, FailureReason
from bertstream.workers.measuring import worker_metrics as metrics
from bertstream.workers.measuring.instruments import Counter, Histogram, Labelled, Registry, reading
from bertstream.workers.measuring.snapshots import Value
from bertstream.workers.serving.queue import WorkQueue
from bertstream.workers.serving.scheduler import Entry

ENCODE, GENERATE = "encode", "generate"  # values of the label `work`
PRIORITIES = {INTERACTIVE: "interactive", BULK: "bulk"}


class WorkMeasures:
    """The measures of one worker. The engine's thread counts batches, and connections' threads count failures."""

    def __init__(self, registry: Registry | None = None, model: str = "") -> None:
        registry = registry or Registry()
        self._model = model
        self._queued = queue_durations(registry, model, ENCODE)
        self._size = registry.histogram(metrics.BATCH_SIZE).of(model)
        self._fill = registry.histogram(metrics.BATCH_FILL).of(model)
        self._texts = registry.counter(metrics.BATCH_TEXTS).of(model)
        self._duration = registry.histogram(metrics.COMPUTE_DURATION).of(model)
        self._failures: Labelled[Counter] = registry.counter(metrics.FAILURES)
        self._lock = threading.Lock()  # of the failures, which several threads count

    def computed(self, entries: Sequence[Entry], batch_tokens: int, started: float, seconds: float) -> None:
        """Count a batch of at most `batch_tokens`, which was computed from `started` on."""
        tokens = sum(entry.tokens for entry in entries)
        self._size.record(tokens)
        self._fill.record(tokens / batch_tokens)
        self._duration.record(seconds)
        self._texts.add(sum(entry.work.batch.lengths.size for entry in entries))
        for entry in entries:
            self._queued[entry.work.priority].record(started - entry.arrival)

    def failed(self, reason: FailureReason) -> None:
        """Count a piece of work that was not computed."""
        with self._lock:
            self._failures.of(self._model, reason).add()


def queue_durations(registry: Registry, model: str, work: str) -> dict[int, Histogram]:
    """Return the instrument of each priority for the time in the queue."""
    durations = registry.histogram(metrics.QUEUE_DURATION)
    return {priority: durations.of(model, work, name) for priority, name in PRIORITIES.items()}


def queue_readings(queue: WorkQueue, model: str) -> Iterable[Value]:
    """Yield what waits in a queue now, and how long it takes."""
    for priority, tokens in queue.waiting_by_priority.items():
        yield reading(metrics.QUEUE_TOKENS, tokens, model, ENCODE, PRIORITIES[priority])
    yield reading(metrics.QUEUE_WAIT, queue.wait_seconds, model)
    yield reading(metrics.FULL_BATCH, queue.batch_seconds, model)
