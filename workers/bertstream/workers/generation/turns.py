"""Estimate when a new generation would begin, from measured turns and from what is under way and waits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bertstream.workers.generation.forecast import Forecast, Need

_HORIZON_SECONDS = 5.0  # the age at which a measurement weighs a third
_HORIZON_ENDED = 32  # generations


class TurnPace:
    """Measure how long turns take, with the batches between them, and how many of their turns generations use."""

    def __init__(self) -> None:
        self.seconds = 0.0  # of a turn; 0 while nothing was measured
        self.share = 1.0  # used of the turns that they may have

    def turned(self, seconds: float) -> None:
        """Note that a turn was computed."""
        decay = math.exp(-seconds / _HORIZON_SECONDS) if self.seconds else 0.0
        self.seconds = decay * self.seconds + (1 - decay) * seconds

    def ended(self, turns: int, most: int) -> None:
        """Note that a generation has ended after this many of the turns that it might have had."""
        self.share += (min(1.0, turns / most) - self.share) / _HORIZON_ENDED


@dataclass(frozen=True, slots=True)
class Crowd:
    """Stand for sequences that wait, as if they were all alike."""

    sequences: float = 0  # how many wait
    rows: float = 1  # that each comes to hold
    turns: float = 1  # that each may have


def turns_until(need: Need, ahead: Crowd, under_way: Sequence[Need], rows: int, sequences: int) -> float:
    """Return after how many turns this need begins, behind `ahead`, where each takes as many turns as it may.

    Those ahead take the free places, then those of generations that end, and then those of each other. rows, sequences:
    all that there are.
    """
    ends = sorted(each.turns for each in under_way for _ in range(each.answers))
    used = sum(each.rows + each.answers * each.turns for each in under_way)
    free = max(0, min(sequences - len(ends), int((rows - used) // ahead.rows)))
    places = [0] * free + ends or [0]
    again, place = divmod(int(ahead.sequences), len(places))
    return max(_turns_for_room(need, under_way, rows, sequences), places[place] + again * ahead.turns)


def _turns_for_room(need: Need, under_way: Sequence[Need], rows: int, sequences: int) -> int:
    """Return after how many turns this need begins where nothing waits ahead of it."""
    starts = sorted({0, *(each.turns for each in under_way)})
    return starts[int(Forecast(rows, sequences, under_way).fits_at(need, starts).argmax())]
