"""How loaded this server is: what its machine, its queues and its calls tell together."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bertstream.server.core.dispatch.outlook import Wait

RATE_SECONDS = 5.0  # over which rates are averaged, older calls counting exponentially less


@dataclass(frozen=True, slots=True)
class Load:
    """The load at one moment. Parts of what there is go from 0 to 1, and above where more is asked for."""

    cpu: float  # part of the processor time that this server may use
    memory: float
    application: float  # 1 where calls begin to be refused
    calls_per_second: float
    failures_per_second: float  # of these, the calls at whose failure the server is to blame
    queue_seconds: Mapping[str, float]  # by model: how long a small call would have to wait now


class Rate:
    """How often something happens, as an average over the last seconds."""

    def __init__(self) -> None:
        self._count = 0.0
        self._at = time.monotonic()

    def add(self) -> None:
        """Count one."""
        self._decay()
        self._count += 1

    @property
    def per_second(self) -> float:
        """How many there were a second."""
        self._decay()
        return self._count / RATE_SECONDS

    def _decay(self) -> None:
        now = time.monotonic()
        self._count *= math.exp((self._at - now) / RATE_SECONDS)
        self._at = now


def queue_seconds(waits: Iterable[Wait], now: float) -> float:
    """Return how long a small call that comes now has to wait, at the worker that is free first."""
    return min((wait.left(now) for wait in waits), default=math.inf)


def fullness(waited: float, most: float, held: float) -> float:
    """Return how full a model's queue is: 1 where calls begin to be refused, by time or by tokens.

    waited, most: seconds, as they are and as they may be; 0 for no bound. held: the part of the bound in tokens.
    """
    if math.isinf(waited):
        return 1.0  # no worker is alive
    return max(waited / most if most else 0.0, held)


def application_load(cpu: float, parts: Iterable[float]) -> float:
    """Return how loaded the server is as a whole: as much as the fullest of its bounds, but never below the processor.

    Balancers go by this number where it is above 0, and by the processor's where it is not (gRFC A58). A short queue is
    a small part of a bound in tens of seconds, so a server that begins to queue would seem far idler than one that does
    not, and would get even more calls.
    """
    return max(cpu, *parts, 0.0)
