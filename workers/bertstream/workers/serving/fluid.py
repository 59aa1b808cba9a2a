"""Estimate how many callers are served in a virtual time, as if work were a fluid: count once, then ask often."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np


class Fluid:
    """Serve C callers: each its first tokens at its start, and more by its weight until it has no more."""

    def __init__(
        self, starts: Sequence[float], first: Sequence[float], tokens: Sequence[float], weights: Sequence[float]
    ) -> None:
        """Count the callers.

        All are [C]. tokens: includes the first ones, and may be infinite.
        """
        began, heads, rates = np.array(starts), np.array(first), np.array(weights)
        times = np.concatenate([began, began + heads / rates, began + np.array(tokens) / rates])  # [3C]
        nothing = np.zeros_like(began)
        order = np.argsort(times, kind="stable")
        jumps = np.concatenate([heads, nothing, nothing])[order].cumsum()
        slopes = np.concatenate([nothing, rates, -rates])[order].cumsum()
        times = times[order]
        known = int(np.searchsorted(times, np.inf))  # callers with infinite tokens have no last time
        grown = np.zeros(known)
        grown[1:] = (slopes[: known - 1] * np.diff(times[:known])).cumsum()
        self._times: list[float] = times[:known].tolist()
        self._served: list[float] = (jumps[:known] + grown).tolist()
        self._slopes: list[float] = slopes[:known].tolist()

    def served(self, time: float) -> float:
        """Return the tokens served by this virtual time, including those that begin at it."""
        place = bisect_right(self._times, time) - 1
        if place < 0:
            return 0.0
        return self._served[place] + self._slopes[place] * (time - self._times[place])
