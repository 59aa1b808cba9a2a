"""What a frontend counts and times of the work that it lets in, by model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

from bertstream.server.core.callers import Caller
from bertstream.workers.measuring import frontend_metrics as metrics
from bertstream.workers.measuring.instruments import Registry

Work = Literal["encode", "generate"]


class AdmissionMeasures:
    """Counts what is let in of one kind of work of one model."""

    def __init__(self, registry: Registry | None = None, model: str = "", work: Work = "encode") -> None:
        registry = registry or Registry()
        self._texts = registry.counter(metrics.ADMITTED_TEXTS).of(model, work)
        self._tokens = registry.counter(metrics.ADMITTED_TOKENS).of(model, work)
        self._by_caller = registry.counter(metrics.CALLER_TOKENS)

    def admitted(self, texts: int, tokens: int, caller: Caller) -> None:
        """Count texts that were let in."""
        self._texts.add(texts)
        self._tokens.add(tokens)
        if caller.has_key:
            self._by_caller.of(caller.name).add(tokens)


class ModelMeasures:
    """All that is counted of one model. Texts are tokenized in several threads, and so counted under a lock."""

    def __init__(self, registry: Registry | None = None, model: str = "") -> None:
        registry = registry or Registry()
        self.encode = AdmissionMeasures(registry, model, "encode")
        self.generate = AdmissionMeasures(registry, model, "generate")
        lost = registry.counter(metrics.WORK_LOST)
        self._lost = {computing: lost.of(model, "yes" if computing else "no") for computing in (False, True)}
        self._duration = registry.histogram(metrics.TOKENIZE_DURATION).of(model)
        self._texts = registry.counter(metrics.TOKENIZED_TEXTS).of(model)
        self._tokens = registry.counter(metrics.TOKENIZED_TOKENS).of(model)
        self._lock = threading.Lock()

    def tokenized(self, texts: int, tokens: int, seconds: float) -> None:
        """Count a message's texts."""
        with self._lock:
            self._duration.record(seconds)
            self._texts.add(texts)
            self._tokens.add(tokens)

    def lost(self, *, computing: bool) -> None:
        """Count a piece of work whose worker was lost, while computing it or not."""
        self._lost[computing].add()


MeasuresOf = Callable[[str], ModelMeasures]  # of the model of this name
