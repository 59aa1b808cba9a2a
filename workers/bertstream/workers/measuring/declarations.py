"""Define what a metric is: its name, kind, unit and labels, and what it means.

Names and units follow OpenTelemetry's conventions: dots between the words of a name, and units in UCUM, such as "s",
"By" and "{token}". What Prometheus calls a metric is made from these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max"]
OTHER = "other"  # stands for every value of a label that is not among those known

# From 10 µs, about what a call costs at least, to a minute, in steps of 1, 2 and 5; then all that took longer.
SECONDS = (
    *(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0),
)
# Those that gRFC A66 gives for sizes, up to what one message may have and a stream may add up to.
BYTES = (0.0, *(1024.0 * 2**power for power in (0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22)))
TOKENS = (*(2.0**power for power in range(17)),)
PARTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """Declare one metric."""

    name: str  # "bertstream.queue.duration"
    kind: Kind
    unit: str  # in UCUM; "1" for a part of a whole
    meaning: str  # a whole sentence
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()  # of a histogram, ascending, each with all values up to and with this one
    merge: Merge = "sum"  # what a gauge of several processes is together
