"""The load of this server as one frontend sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bertstream.server.core.gate import Gate
from bertstream.server.core.load import Load, application_load, fullness, queue_seconds
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.frontend.machine import Machine
from bertstream.server.protocols.interceptors.load import CountedCalls, Reused
from bertstream.server.protocols.orca import report_of


class FrontendLoad:
    """Measures the load; `report` has it as the bytes of an OrcaLoadReport, which are made anew now and then."""

    def __init__(self, models: Models, gate: Gate, most_queue_seconds: float, machine: Machine | None = None) -> None:
        self.counted = CountedCalls()
        self.report = Reused(lambda: bytes(report_of(self.measure()).SerializeToString()))
        self._models = models
        self._gate = gate
        self._most_queue_seconds = most_queue_seconds
        self._machine = machine or Machine()

    def measure(self) -> Load:
        """Return the load now. The calls are those of this frontend, all else is the server's."""
        now, (cpu, memory) = time.monotonic(), self._machine.measure()
        waits = {
            model.name: queue_seconds((link.wait for link in model.dispatcher.live), now) for model in self._models
        }
        parts = (part for model in self._models for part in self._fullness(model, waits[model.name], now))
        return Load(
            cpu,
            memory,
            application_load(cpu, (self._gate.fullness, *parts)),
            self.counted.calls.per_second,
            self.counted.failures.per_second,
            {name: seconds for name, seconds in waits.items() if seconds < float("inf")},
        )

    def _fullness(self, model: ServedModel, waited: float, now: float) -> Iterator[float]:
        yield fullness(waited, self._most_queue_seconds, model.admission.fullness)
        if model.description.generation is not None:
            generating = queue_seconds((link.generation_wait for link in model.dispatcher.live), now)
            yield fullness(generating, self._most_queue_seconds, model.generation_admission.fullness)
