"""Whether processes grew: from samples, without processes or clocks."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WARM_UP = 0.4  # of the calls: until then caches fill, and allocators reach their size
SLACK_BYTES = 12 << 20  # that a process may gain without any leak, as its allocator has it
MORE_FILES, MORE_THREADS = 16, 4


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one time."""

    seconds: float
    process: str
    pid: int
    calls: int
    """Answered by the whole server so far."""
    resident_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one process after the warm-up."""

    process: str
    bytes_a_call: float
    """The slope of its memory: the median of those between all pairs of samples (Theil and Sen)."""
    grown_bytes: float
    """That slope, times the calls."""
    more_descriptors: int
    more_threads: int
    fault: str = ""
    """Why it is not flat; empty if it is."""


def judge(samples: Iterable[Sample], most_bytes_a_call: float) -> list[Verdict]:
    """Return a verdict on each process. It grows where its slope is above the bound and its growth above the slack."""
    by_process: dict[str, list[Sample]] = {}
    for sample in samples:
        by_process.setdefault(sample.process, []).append(sample)
    return [_verdict(name, each, most_bytes_a_call) for name, each in sorted(by_process.items())]


def _verdict(name: str, samples: Sequence[Sample], most_bytes_a_call: float) -> Verdict:
    warm = [each for each in samples if each.calls >= WARM_UP * samples[-1].calls]
    if len(warm) < 3:
        return Verdict(name, 0.0, 0.0, 0, 0, f"only {len(warm)} samples after the warm-up")
    first, last = warm[0], warm[-1]
    slope = _slope([(each.calls, each.resident_bytes) for each in warm])
    grown = slope * (last.calls - first.calls)
    files, threads = last.descriptors - first.descriptors, last.threads - first.threads
    faults = []
    if len({each.pid for each in samples}) > 1:
        faults.append("it was replaced")
    if slope > most_bytes_a_call and grown > SLACK_BYTES:
        faults.append(f"it grows by {slope:.0f} bytes a call, of at most {most_bytes_a_call:.0f}")
    if files > MORE_FILES:
        faults.append(f"it has {files} more descriptors")
    if threads > MORE_THREADS:
        faults.append(f"it has {threads} more threads")
    return Verdict(name, slope, grown, files, threads, "; ".join(faults))


def _slope(points: Sequence[tuple[int, int]]) -> float:
    """Return the median slope between points; 0 where none differ in x."""
    some = points[:: max(1, len(points) // 200)]  # of hours of samples enough
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(some)
        for later in some[index + 1 :]
        if later[0] > earlier[0]
    ]
    return statistics.median(slopes) if slopes else 0.0


HEADER = ("process", "bytes a call", "grown, MiB", "descriptors", "threads", "")


def table(verdicts: Sequence[Verdict]) -> str:
    """Return verdicts as lines of columns."""
    lines = [HEADER, *(_cells(each) for each in verdicts)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _cells(each: Verdict) -> tuple[str, ...]:
    growth = (f"{each.bytes_a_call:.1f}", f"{each.grown_bytes / (1 << 20):.2f}")
    return (each.process, *growth, f"{each.more_descriptors:+d}", f"{each.more_threads:+d}", each.fault or "flat")
