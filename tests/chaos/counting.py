"""What became of calls, and what that says of a fault: without processes or clocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

RIGHT, WRONG, LOST = "right", "wrong", "lost"
PASSING = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")  # the statuses that say: ask again


@dataclass(frozen=True, slots=True)
class Record:
    """One call, with all its attempts. Times are of CLOCK_MONOTONIC, which all processes share, in seconds."""

    kind: str
    began: float
    ended: float
    outcome: str
    failed: tuple[tuple[float, str], ...] = ()
    """When, and with which status, attempts failed before the last one."""
    why: str = ""
    """Of a call that was wrong or lost."""


@dataclass(slots=True)
class Row:
    """One fault, as the table has it."""

    fault: str
    seconds: float
    calls: int = 0
    right: int = 0
    retried: int = 0
    wrong: int = 0
    lost: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    normal_seconds: float = 0.0
    """From the fault until all processes are there again, and no attempt fails any more."""
    broken: str = ""
    """What was promised and did not hold."""
    complaints: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether all was as it should be."""
        return not (self.wrong or self.lost or self.broken)


def row(fault: str, began: float, whole: float, ended: float, records: Iterable[Record]) -> Row:
    """Count what ended between two times. `whole`: when all of the server's processes were there again."""
    counted = Row(fault, ended - began)
    last = whole
    for record in records:
        if not began <= record.ended < ended:
            continue
        counted.calls += 1
        counted.right += record.outcome == RIGHT
        counted.wrong += record.outcome == WRONG
        counted.lost += record.outcome == LOST
        counted.retried += bool(record.failed)
        counted.failed.update(status for _, status in record.failed)
        last = max([last, *(at for at, _ in record.failed)])
        if record.why:
            counted.complaints.append(f"{record.kind}: {record.why}")
    counted.normal_seconds = last - began
    return counted


def unanswered(kinds: Sequence[str], records: Iterable[Record], since: float) -> list[str]:
    """Return the kinds of which no right answer has ended since then, to a call that began since then."""
    answered = {each.kind for each in records if each.outcome == RIGHT and each.began >= since}
    return [kind for kind in kinds if kind not in answered]


HEADER = ("fault", "seconds", "calls", "right", "retried", "wrong", "lost", "normal after, s", "failed attempts")


def table(rows: Sequence[Row]) -> str:
    """Return rows as lines of columns."""
    cells = [HEADER, *(_cells(each) for each in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER) - 1)]
    aligned = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:-1], widths[1:]), line[-1]]).rstrip()
        for line in cells
    ]
    return "\n".join(aligned)


def _cells(each: Row) -> tuple[str, ...]:
    numbers = (each.calls, each.right, each.retried, each.wrong, each.lost)
    statuses = ", ".join(f"{status} {count}" for status, count in sorted(each.failed.items()))
    told = "; ".join(filter(None, [statuses, f"NOT AS PROMISED: {each.broken}" if each.broken else ""]))
    return (each.fault, f"{each.seconds:.1f}", *map(str, numbers), f"{each.normal_seconds:.1f}", told)
