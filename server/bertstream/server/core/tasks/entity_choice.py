"""Chooses entities among spans that may be one, as GLiNER does: the best first, then those that go with them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Candidates(NamedTuple):
    """S spans of words that may be entities."""

    starts: Ints  # [S]
    ends: Ints  # [S]: the last word
    labels: Ints  # [S]
    scores: NDArray[np.float32]  # [S]

    def at(self, indexes: Ints | slice) -> Candidates:
        """Return the spans at these indexes."""
        return Candidates(self.starts[indexes], self.ends[indexes], self.labels[indexes], self.scores[indexes])

    def best(self) -> Ints:
        """Return the indexes of the spans without those that are there twice, of which the best stays.

        They are in the order of their starts, ends and labels.
        """
        order = np.lexsort((-self.scores, self.labels, self.ends, self.starts))
        sorted_ = self.at(order)
        first = np.ones(order.size, np.bool_)
        columns = (sorted_.starts, sorted_.ends, sorted_.labels)
        first[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        return order[first]


def choose(found: Candidates, *, nested: bool, multi_label: bool) -> Ints:
    """Return the indexes of the entities, by their first word, and those with the same one by falling score.

    Each span is taken, from the best one on, that goes with all taken before: flat ones share no word, nested ones may
    lie within each other, and with `multi_label` the same words may have several labels. Of equal scores the earlier
    span comes first.
    """
    order = np.argsort(-found.scores, kind="stable")
    taken: list[int] = []
    starts, ends = np.empty(order.size, np.int64), np.empty(order.size, np.int64)
    for index in order.tolist():
        start, end, many = found.starts[index], found.ends[index], len(taken)
        other_starts, other_ends = starts[:many], ends[:many]
        clashes = (start <= other_ends) & (other_starts <= end)
        if nested:
            within = (start <= other_starts) & (other_ends <= end) | (other_starts <= start) & (end <= other_ends)
            clashes &= ~within
        clashes[(start == other_starts) & (end == other_ends)] = not multi_label
        if not clashes.any():
            starts[many], ends[many] = start, end
            taken.append(index)
    return np.array(sorted(taken, key=lambda index: int(found.starts[index])), np.int64)
