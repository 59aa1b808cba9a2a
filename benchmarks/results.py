"""What was measured, as it is written to results.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import Machine
from benchmarks.memory import Memory
from benchmarks.peers import Choice


@dataclass
class Bulk:
    """Many texts: seconds of each round."""

    contender: str
    workload: str
    texts: int
    tokens: int
    choice: Choice
    seconds: list[float] = field(default_factory=list)


@dataclass
class Calls:
    """One text a call: seconds of each call of all rounds, and of each round."""

    contender: str
    concurrency: int
    latencies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass
class Mixed:
    """Single calls at random times, without and with streams that saturate the server: of all rounds."""

    contender: str
    rate: float  # calls a second
    alone: list[float] = field(default_factory=list)  # texts/s of the streams, a value a round
    beside: list[float] = field(default_factory=list)  # the same, with the calls
    alone_processor: list[float] = field(default_factory=list)  # the same for each second of the server's processors
    beside_processor: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)  # seconds that a batch of the streams alone computes; a round
    idle: list[float] = field(default_factory=list)  # seconds of each call where there is nothing else
    latencies: list[float] = field(default_factory=list)  # and beside the streams
    idle_parts: list[dict[str, float]] = field(default_factory=list)  # seconds of each call, by where they went
    parts: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Processor:
    """Processor time of a server and those who send to it, for many texts: seconds of all rounds."""

    contender: str
    texts: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # by role


@dataclass(frozen=True)
class Quality:
    """Against the float32 vectors of a reference, on real sentences."""

    contender: str
    reference: str
    least_cosine: float
    mean_cosine: float
    rank_correlation: float


@dataclass(frozen=True)
class LeftOut:
    """Who was not measured, or not to the end, and why."""

    contender: str
    reason: str


@dataclass
class ModelResults:
    """All about one checkpoint."""

    model: str
    real: bool  # trained weights
    shape: dict[str, int]
    bulk: list[Bulk] = field(default_factory=list)
    calls: list[Calls] = field(default_factory=list)
    mixed: list[Mixed] = field(default_factory=list)
    processor: list[Processor] = field(default_factory=list)
    quality: list[Quality] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    order: list[str] = field(default_factory=list)  # of the contenders
    took: dict[str, float] = field(default_factory=dict)  # seconds of each part of the run

    def bulk_of(self, contender: str, workload: str) -> Bulk | None:
        """Its measurements on many texts."""
        return next((each for each in self.bulk if (each.contender, each.workload) == (contender, workload)), None)

    def calls_of(self, contender: str, concurrency: int) -> Calls | None:
        """Its measurements with so many calls at once."""
        found = (each for each in self.calls if (each.contender, each.concurrency) == (contender, concurrency))
        return next(found, None)

    def mixed_of(self, contender: str) -> Mixed | None:
        """Its calls beside streams."""
        return next((each for each in self.mixed if each.contender == contender), None)

    def processor_of(self, contender: str) -> Processor | None:
        """Its processor time."""
        return next((each for each in self.processor if each.contender == contender), None)

    def left_out_of(self, contender: str) -> LeftOut | None:
        """Why it was not measured, or not to the end."""
        return next((each for each in self.left_out if each.contender == contender), None)

    def quality_of(self, contender: str) -> Quality | None:
        """How good its vectors are."""
        return next((each for each in self.quality if each.contender == contender), None)


@dataclass
class Results:
    """Of one run."""

    machine: Machine
    date: str
    settings: dict[str, Any]
    versions: dict[str, str]
    models: list[ModelResults] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """As JSON, times rounded to the microsecond."""
        path.write_text(json.dumps(_rounded(asdict(self)), indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Results:
    """What `save` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    machine = values.pop("machine")
    machine = Machine(**machine | {"instructions": tuple(machine["instructions"])})
    models = [_model(each) for each in values.pop("models")]
    return Results(machine=machine, models=models, **values)


def _model(values: dict[str, Any]) -> ModelResults:
    bulk = [Bulk(**each | {"choice": Choice(**each["choice"])}) for each in values.pop("bulk")]
    return ModelResults(
        bulk=bulk,
        calls=[Calls(**each) for each in values.pop("calls")],
        mixed=[Mixed(**each) for each in values.pop("mixed")],
        processor=[Processor(**each) for each in values.pop("processor")],
        quality=[Quality(**each) for each in values.pop("quality")],
        memory={name: Memory(**each) for name, each in values.pop("memory").items()},
        left_out=[LeftOut(**each) for each in values.pop("left_out")],
        **values,
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
