"""The measurements of duels."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Side:
    """One of both sides: what each round took."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)  # seconds of all its processes


@dataclass
class DuelResult:
    """Rounds of the same work by bertstream and by another."""

    part: str
    name: str
    unit: str
    amount: float  # of a round
    ours: Side = field(default_factory=Side)
    theirs: Side = field(default_factory=Side)
    why: str = ""  # why it was not measured, or not to the end


@dataclass
class Start:
    """A way to start, and what each start took until texts could come."""

    name: str
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


@dataclass
class DuelResults:
    """All of one checkpoint's shape."""

    duels: list[DuelResult] = field(default_factory=list)
    starts: dict[str, Start] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)  # bytes; shared memory is divided among the processes
    left_out: dict[str, str] = field(default_factory=dict)
