"""Forecast the most rows and sequences that the generations under way will hold, turn by turn.

All of them go on together, so this is known in advance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bertstream.workers.ragged import Ints


@dataclass(frozen=True, slots=True)
class Need:
    """Hold the most that one Generate needs: in turn t of its `turns`, from 1 on, `rows + t * answers` rows."""

    rows: int  # before the first of these turns
    answers: int  # sequences side by side, each of which takes one row a turn
    turns: int  # after which it has ended at the latest, and holds nothing

    @property
    def held(self) -> Ints:
        """Return the rows held in each of its turns, [turns]."""
        return self.rows + self.answers * np.arange(1, self.turns + 1)

    def after(self, turns: int) -> Need:
        """Return what it still needs after this many turns, if it has not ended."""
        return Need(self.rows + self.answers * turns, self.answers, max(1, self.turns - turns))


class Forecast:
    """Forecast the rows and sequences that are taken in each coming turn, 0 being the next, within their limits.

    A need that meets nobody else always fits, however large it is, so that everything can run at some time.
    """

    def __init__(self, rows: int, sequences: int, needs: Sequence[Need] = ()) -> None:
        self.rows = rows
        self.sequences = sequences
        # Of the sequences that have not ended in turn t, sum up rows + (t + 1) * answers.
        ends = [need.turns - 1 for need in needs]
        self._sequences = _going_on(ends, [need.answers for need in needs])  # [turns]
        turns = np.arange(1, self._sequences.size + 1)
        self._rows = _going_on(ends, [need.rows for need in needs]) + turns * self._sequences  # [turns]
        self._most: Ints | None = None
        self._spare: dict[int, Ints] = {}

    @property
    def full(self) -> bool:
        """Return whether the next turn has no sequence or no row to spare."""
        return bool(self._rows.size) and (self._sequences[0] >= self.sequences or self._rows[0] >= self.rows)

    def add(self, need: Need, start: int = 0) -> None:
        """Add a need that is under way from turn `start` on."""
        end = start + need.turns
        self._rows, self._sequences = _grown(self._rows, end), _grown(self._sequences, end)
        self._rows[start:end] += need.held
        self._sequences[start:end] += need.answers
        self._most, self._spare = None, {}

    def fits(self, need: Need) -> bool:
        """Return whether the need can begin in the next turn. This is cheap, since many may be asked about."""
        last = min(need.turns, self._rows.size) - 1
        if last < 0:
            return True
        if self._most is None:
            self._most = np.maximum.accumulate(self._sequences)
        if need.answers not in self._spare:
            spare = self.rows - self._rows - need.answers * np.arange(1, self._rows.size + 1)
            self._spare[need.answers] = np.minimum.accumulate(spare)
        most = int(self._most[last])
        fits = most + need.answers <= self.sequences and need.rows <= self._spare[need.answers][last]
        return most == 0 or bool(fits)

    def fits_at(self, need: Need, starts: Sequence[int]) -> NDArray[np.bool_]:
        """Return whether the need can begin in each of S turns.

        starts: ascending; returns [S].
        """
        end = starts[-1] + need.turns
        rows: Ints = sliding_window_view(_grown(self._rows, end), need.turns)[list(starts)]  # [S, turns]
        sequences: Ints = sliding_window_view(_grown(self._sequences, end), need.turns)[list(starts)]
        enough = (rows + need.held <= self.rows) & (sequences + need.answers <= self.sequences)
        return np.asarray(enough.all(1) | (sequences == 0).all(1))


def _going_on(lasts: Sequence[int], amounts: Sequence[int]) -> Ints:
    """Return the sum of the amounts in each turn, [turns], where each counts up to its last turn."""
    leaving = np.bincount(np.array(lasts, np.int64), np.array(amounts, np.float64))
    return leaving[::-1].cumsum()[::-1].astype(np.int64)


def _grown(turns: Ints, size: int) -> Ints:
    """Return turns padded with zeros to at least this size."""
    return turns if size <= turns.size else np.concatenate([turns, np.zeros(size - turns.size, np.int64)])
