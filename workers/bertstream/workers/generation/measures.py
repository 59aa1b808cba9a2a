"""What a worker counts and times of text that it generates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from bertstream.workers.generation.cache import CacheRows
from bertstream.workers.generation.queue import Entry, GenerationQueue
from bertstream.workers.measuring import worker_metrics as metrics
from bertstream.workers.measuring.instruments import Registry, reading
from bertstream.workers.measuring.snapshots import Value
from bertstream.workers.serving.measures import GENERATE, PRIORITIES, queue_durations

Phase = Literal["prefill", "step"]


class GenerationMeasures:
    """The measures of one worker's generations, which the engine's thread alone counts."""

    def __init__(self, registry: Registry | None = None, model: str = "") -> None:
        registry = registry or Registry()
        self._queued = queue_durations(registry, model, GENERATE)
        durations = registry.histogram(metrics.GENERATION_DURATION)
        self._duration = {"prefill": durations.of(model, "prefill"), "step": durations.of(model, "step")}
        self._tokens = registry.counter(metrics.GENERATED_TOKENS).of(model)

    def joined(self, entries: Sequence[Entry], now: float) -> None:
        """Count generations that leave the queue, and begin."""
        for entry in entries:
            self._queued[entry.work.priority].record(now - entry.arrival)

    def computed(self, phase: Phase, seconds: float, tokens: int) -> None:
        """Count a computation, and the tokens that were chosen by it."""
        self._duration[phase].record(seconds)
        self._tokens.add(tokens)


def generation_readings(queue: GenerationQueue, rows: CacheRows, under_way: int, model: str) -> Iterable[Value]:
    """Yield what waits to be generated, how many inputs are under way, and what of the cache these hold."""
    for priority, tokens in queue.waiting_by_priority.items():
        yield reading(metrics.QUEUE_TOKENS, tokens, model, GENERATE, PRIORITIES[priority])
    yield reading(metrics.GENERATIONS, under_way, model)
    yield reading(metrics.CACHE_USED, rows.used, model)
    yield reading(metrics.CACHE_SIZE, rows.rows, model)
