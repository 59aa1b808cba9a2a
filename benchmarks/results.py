"""What was measured, as it is written to results.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import Machine
from benchmarks.peers import Choice

Parts = dict[str, float]  # seconds of a call, by where they went


@dataclass
class Bulk:
    """Many texts: seconds of each round."""

    texts: int
    tokens: int
    choice: Choice
    seconds: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Texts a second, a value a round."""
        return [self.texts / seconds for seconds in self.seconds]


@dataclass
class Calls:
    """One text a call: seconds of each call of all rounds, and of each round."""

    latencies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass
class Mixed:
    """Single calls at random times, without and with streams that saturate the server: of all rounds."""

    rate: float  # calls a second
    alone: list[float] = field(default_factory=list)  # texts/s of the streams, a value a round
    beside: list[float] = field(default_factory=list)  # the same, with the calls
    alone_processor: list[float] = field(default_factory=list)  # the same for each second of the server's processors
    beside_processor: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)  # seconds that a batch of the streams alone computes; a round
    idle: list[float] = field(default_factory=list)  # seconds of each call where there is nothing else
    latencies: list[float] = field(default_factory=list)  # and beside the streams
    idle_parts: list[Parts] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)


@dataclass
class Processor:
    """Processor time of a server and those who send to it, for many texts: seconds of all rounds."""

    texts: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # by role


@dataclass(frozen=True)
class Quality:
    """Against the float32 vectors of transformers, on real sentences."""

    least_cosine: float
    mean_cosine: float
    rank_correlation: float


@dataclass
class ModelResults:
    """All about one checkpoint; inner keys are names of contenders."""

    model: str
    real: bool  # trained weights
    shape: dict[str, int]
    bulk: dict[str, dict[str, Bulk]] = field(default_factory=dict)  # by workload
    calls: dict[int, dict[str, Calls]] = field(default_factory=dict)  # by how many at once
    mixed: dict[str, Mixed] = field(default_factory=dict)
    processor: dict[str, Processor] = field(default_factory=dict)
    quality: dict[str, Quality] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)  # bytes; what processes share is divided among them
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # why it was not measured, or not to the end
    order: list[str] = field(default_factory=list)  # of the contenders
    took: dict[str, float] = field(default_factory=dict)  # seconds of each part of the run

    def bulk_of(self, contender: str, workload: str) -> Bulk | None:
        """Its measurements on many texts."""
        return self.bulk.get(workload, {}).get(contender)

    def calls_of(self, contender: str, concurrency: int = 1) -> Calls | None:
        """Its measurements with so many calls at once."""
        return self.calls.get(concurrency, {}).get(contender)

    def measured(self, contender: str) -> bool:
        """Whether there is any figure of it."""
        figures: list[Mapping[str, object]] = [*self.bulk.values(), *self.calls.values(), self.mixed, self.quality]
        return any(contender in each for each in figures)


@dataclass
class Results:
    """Of one run."""

    machine: Machine
    date: str
    settings: dict[str, Any]
    versions: dict[str, str]
    models: dict[str, ModelResults] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
