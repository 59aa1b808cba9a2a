"""How busy the machine is with what others do, and a wait until it is quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

MOST_BUSY = 0.1  # of all processors, by what else runs: figures beside more than that say little
SAMPLE_SECONDS, WAIT_SECONDS = 5.0, 300.0
STAT = Path("/proc/stat")


class NotQuiet(Exception):
    """Others use the machine; the message is for people."""


def ticks() -> tuple[int, int]:
    """Return how long all processors have computed, and how long they have been there, in ticks since the start."""
    user, nice, system, idle, waiting, interrupts, soft, stolen = map(
        int, STAT.read_text(encoding="utf-8").split()[1:9]
    )
    busy = user + nice + system + interrupts + soft + stolen
    return busy, busy + idle + waiting


def busy_share(seconds: float = SAMPLE_SECONDS, sleep: Callable[[float], None] = time.sleep) -> float:
    """Return which part of all processors is in use, by a look at `seconds` of doing nothing."""
    busy, total = ticks()
    sleep(seconds)
    later_busy, later_total = ticks()
    return (later_busy - busy) / max(1, later_total - total)


def wait(tell: Callable[[str], None], sample: Callable[[], float] = busy_share, limit: float = WAIT_SECONDS) -> float:
    """Return how busy the machine is, once it is quiet. Raises NotQuiet where it is not, after `limit` seconds."""
    ends, told = time.monotonic() + limit, False
    while (share := sample()) > MOST_BUSY:
        if time.monotonic() >= ends:
            raise NotQuiet(
                f"others use {share:.0%} of the processors, beside which figures say little; stop them, or measure all "
                "the same with --busy"
            )
        if not told:
            tell(f"others use {share:.0%} of the processors: waiting for {limit / 60:.0f} minutes at most")
            told = True
    return share
