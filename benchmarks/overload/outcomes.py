"""What became of the calls of one load, as the numbers that are judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.overload.offering import REFUSED, Call


@dataclass(frozen=True, slots=True)
class Outcome:
    """One load on one server. Times in seconds, rates in calls a second."""

    factor: float  # of the capacity that was offered
    offered: float
    goodput: float  # answered within the deadline
    answered_p50: float
    answered_p99: float
    refused_p50: float  # until the caller was told so; nan where none was refused
    statuses: dict[str, int]
    lag: float  # by which calls began too late, at the 99th percentile: the callers were too slow, where it is much
    memory: int  # bytes of the server, at the end


def judged(calls: Sequence[Call], factor: float, seconds: float, deadline: float, memory: int) -> Outcome:
    """Return the numbers of calls that were due within so many seconds, but for the first `deadline` seconds.

    Those find an idle server: what is wanted is what it does under a load that lasts.
    """
    steady = [call for call in calls if call.due >= deadline]
    span = max(seconds - deadline, 1e-9)
    answered = [call.seconds for call in steady if call.status == "OK"]
    refused = [call.seconds for call in steady if call.status == REFUSED]
    return Outcome(
        factor,
        len(steady) / span,
        sum(each <= deadline for each in answered) / span,
        percentile(answered, 50),
        percentile(answered, 99),
        percentile(refused, 50),
        dict(Counter(call.status for call in steady)),
        percentile([call.began - call.due for call in steady], 99),
        memory,
    )


def percentile(seconds: Sequence[float], percent: float) -> float:
    """Return the least value that so many percent do not exceed; nan of none."""
    return float(np.percentile(seconds, percent, method="inverted_cdf")) if seconds else float("nan")


def settled_after(calls: Sequence[Call], normal: float) -> float:
    """Return when the last probe was sent that took longer than twice what is `normal`; 0 where none did."""
    return max((call.due for call in calls if call.status != "OK" or call.seconds > 2 * normal), default=0.0)
