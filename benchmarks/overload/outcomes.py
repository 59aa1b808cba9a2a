"""The outcome of the calls of one load, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.overload.offering import REFUSED, Call


@dataclass(frozen=True, slots=True)
class Outcome:
    """One load on one server. Times are in seconds, rates in calls per second."""

    factor: float  # the load as a multiple of the capacity
    offered: float
    goodput: float  # answered within the deadline
    good_tokens: float  # of these, in tokens per second
    answered_p50: float
    answered_p99: float
    refused_p50: float  # time until a call was refused; nan if none was
    statuses: dict[str, int]
    lag: (
        float  # how much too late calls began, at the 99th percentile; a large lag means that the callers were too slow
    )
    memory: int  # bytes of the server, at the end
    processor: dict[str, float]  # cores that each role used on average, of all that was offered: "client", "worker" …


def judged(
    calls: Sequence[Call],
    factor: float,
    seconds: float,
    deadline: float,
    memory: int,
    processor: dict[str, float],
) -> Outcome:
    """Return the outcome of calls that were due within `seconds`, without the first `deadline` seconds.

    The first calls find an idle server, but what counts is how it does under a lasting load.
    """
    steady = [call for call in calls if call.due >= deadline]
    span = max(seconds - deadline, 1e-9)
    answered = [call.seconds for call in steady if call.status == "OK"]
    refused = [call.seconds for call in steady if call.status == REFUSED]
    good = [call for call in steady if call.status == "OK" and call.seconds <= deadline]
    return Outcome(
        factor,
        len(steady) / span,
        len(good) / span,
        sum(call.tokens for call in good) / span,
        percentile(answered, 50),
        percentile(answered, 99),
        percentile(refused, 50),
        dict(Counter(call.status for call in steady)),
        percentile([call.began - call.due for call in steady], 99),
        memory,
        processor,
    )


def percentile(seconds: Sequence[float], percent: float) -> float:
    """Return the least value that this percentage of values does not exceed; nan for no values."""
    return float(np.percentile(seconds, percent, method="inverted_cdf")) if seconds else float("nan")


def settled_after(calls: Sequence[Call], normal: float) -> float:
    """Return when the last probe was sent that failed, or took longer than the `normal` bound; 0 if none did."""
    return max((call.due for call in calls if call.status != "OK" or call.seconds > normal), default=0.0)
