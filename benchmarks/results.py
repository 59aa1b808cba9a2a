"""The measurements of a run, as they are written to results.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.duels.results import DuelResults
from benchmarks.machine import Machine
from benchmarks.peers import Choice

Parts = dict[str, float]  # seconds of a call, by where the time went


@dataclass
class Bulk:
    """A bulk workload: seconds of each round."""

    texts: int
    tokens: int
    choice: Choice
    seconds: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Texts per second of each round."""
        return [self.texts / seconds for seconds in self.seconds]


@dataclass
class Calls:
    """Calls of one text: seconds of each call of all rounds, and of each round."""

    latencies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass
class Mixed:
    """Single calls at random times, without and with streams that saturate the server, in all rounds."""

    rate: float  # calls per second
    alone: list[float] = field(default_factory=list)  # texts/s of the streams alone, in each round
    beside: list[float] = field(default_factory=list)  # texts/s of the streams beside the calls
    alone_processor: list[float] = field(default_factory=list)  # texts per processor second of the server, likewise
    beside_processor: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)  # compute seconds of a batch of the streams alone, in each round
    idle: list[float] = field(default_factory=list)  # seconds of each call without streams
    latencies: list[float] = field(default_factory=list)  # seconds of each call beside the streams
    idle_parts: list[Parts] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)


@dataclass
class Processor:
    """Processor time of a server and its clients on a bulk workload, in seconds of all rounds."""

    texts: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # by role


@dataclass(frozen=True)
class Quality:
    """Comparison with the float32 vectors of transformers, on real sentences."""

    least_cosine: float
    mean_cosine: float
    rank_correlation: float


@dataclass
class ModelResults:
    """The results of one checkpoint; inner keys are names of contenders."""

    model: str
    real: bool  # whether its weights are trained
    shape: dict[str, int]
    bulk: dict[str, dict[str, Bulk]] = field(default_factory=dict)  # by workload
    calls: dict[int, dict[str, Calls]] = field(default_factory=dict)  # by how many at once
    mixed: dict[str, Mixed] = field(default_factory=dict)
    processor: dict[str, Processor] = field(default_factory=dict)
    quality: dict[str, Quality] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)  # bytes; shared memory is divided among the processes
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # why a contender was not measured, or not to the end
    order: list[str] = field(default_factory=list)  # the contenders in their order
    took: dict[str, float] = field(default_factory=dict)  # seconds of each part of the run

    def bulk_of(self, contender: str, workload: str) -> Bulk | None:
        """Return a contender's measurements on a bulk workload, or None."""
        return self.bulk.get(workload, {}).get(contender)

    def calls_of(self, contender: str, concurrency: int = 1) -> Calls | None:
        """Return a contender's measurements with this many calls at once, or None."""
        return self.calls.get(concurrency, {}).get(contender)

    def measured(self, contender: str) -> bool:
        """Return whether there is any figure of a contender."""
        figures: list[Mapping[str, object]] = [*self.bulk.values(), *self.calls.values(), self.mixed, self.quality]
        return any(contender in each for each in figures)


@dataclass
class Results:
    """The results of one run."""

    machine: Machine
    date: str
    settings: dict[str, Any]
    versions: dict[str, str]
    models: dict[str, ModelResults] = field(default_factory=dict)
    duels: dict[str, DuelResults] = field(default_factory=dict)  # by the model whose shape it is

    def save(self, path: Path) -> None:
        """Write the results as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
