"""Merges the windows of long texts: each token once, and the entities that all windows together find.

A window shows nothing beyond its edges, so there it takes parts of words for words, and parts of entities for entities.
An entity that a window has whole counts as found there; one that no window has whole is found from the tokens of
several windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.tasks.entities_groups import FoundEntities
from bertstream.server.core.tasks.entities_words import Ints, RealTokens, first_of_runs, within_runs

Bools = NDArray[np.bool_]
# Finds entities from the indexes of tokens [K], whether each begins a word [K], and the text of each [K].
Find = Callable[[Ints, Bools, Ints], FoundEntities]


@dataclass(frozen=True, slots=True)
class Windows:
    """The tokens of rows that may be windows, and how they make up whole texts."""

    rows: RealTokens  # K tokens
    whole: RealTokens  # T tokens, one for each place in a text; their `rows` are the texts
    chosen: Ints  # [T]: which of the K tokens each is: the one with the most context in its row
    places: Ints  # [K]: which of the T tokens each stands for

    @classmethod
    def of(cls, real: RealTokens, texts: Ints) -> Windows:
        """Merge the tokens of rows; texts: [r], ascending, the text of each row."""
        owners, indexes = texts[real.rows], real.indexes
        order = np.arange(owners.size)
        if not first_of_runs(texts).all():
            order = np.lexsort((-_context(real.rows, indexes, owners), indexes, owners))
        new = first_of_runs(owners[order]) | first_of_runs(indexes[order])
        chosen, places = order[new], np.empty(order.size, np.int64)
        places[order] = np.cumsum(new) - 1
        # Places count the special tokens before them too, as in a row of the whole text.
        before = (real.places - within_runs(real.rows))[chosen]
        whole = replace(real.at(chosen), rows=owners[chosen], places=before + indexes[chosen])
        return cls(real, whole, chosen, places)

    def read_whole(self, find: Find) -> FoundEntities:
        """Return the entities of the whole texts, each token read in the window in which it has the most context."""
        return find(self.chosen, self.whole.begins | first_of_runs(self.whole.rows), self.whole.rows)

    def read(self, find: Find) -> FoundEntities:
        """Return the entities that each window has whole, without words cut by its edge, and those that none has whole.

        They are in no order, and overlap where several windows found the same entity or do not agree.
        """
        own = np.flatnonzero(~self._are_cut())
        rows, places = self.rows.rows[own], self.places[own]
        found = find(own, self.whole.begins[places] | first_of_runs(rows), rows)
        found = found._replace(firsts=places[found.firsts], lasts=places[found.lasts - 1] + 1)
        starts = np.flatnonzero(first_of_runs(rows))
        stops = np.append(starts[1:], rows.size)[: starts.size]
        across = self.read_whole(find)
        return found.and_also(across.at(~_within_one(across, places[starts], places[stops - 1] + 1)))

    def _are_cut(self) -> Bools:
        """Return whether each token is of a word of which its row has only a part: [K]."""
        rows, size = self.rows.rows, self.whole.rows.size
        continues = ~(self.whole.begins | first_of_runs(self.whole.rows))  # [T]
        starts = first_of_runs(rows)
        words = np.cumsum(starts | ~continues[self.places])  # [K]
        firsts = np.flatnonzero(starts)
        lasts = np.append(firsts[1:], rows.size)[: firsts.size] - 1
        next_places = np.minimum(self.places[lasts] + 1, size - 1)
        goes_on = continues[next_places] & (self.places[lasts] + 1 < size)
        cut = np.concatenate([words[firsts[continues[self.places[firsts]]]], words[lasts[goes_on]]])
        return np.isin(words, cut)


def _context(rows: Ints, indexes: Ints, texts: Ints) -> Ints:
    """Return the tokens from each token to the nearer edge of its row, not counting a text's ends: [K] each -> [K]."""
    within, far = within_runs(rows), rows.size
    after = np.flip(within_runs(np.flip(rows)))
    before = np.where(indexes == within, far, within)
    are_last = indexes + after == -_least(-indexes, texts)
    context: Ints = np.minimum(before, np.where(are_last, far, after))
    return context


def _least(values: Ints, groups: Ints) -> Ints:
    """Return the least value in each element's group; groups ascend: [n], [n] -> [n]."""
    if not values.size:
        return values
    starts = np.flatnonzero(first_of_runs(groups))
    return np.repeat(np.minimum.reduceat(values, starts), np.diff(starts, append=groups.size))


def _within_one(found: FoundEntities, starts: Ints, stops: Ints) -> Bools:
    """Return whether each entity has all its tokens in one of these rows: [E], [R], [R] -> [E]."""
    if not starts.size:
        return np.zeros(found.firsts.size, np.bool_)
    order = np.lexsort((stops, starts))
    furthest = np.maximum.accumulate(stops[order])  # rows that start later end later, in one text
    at = np.searchsorted(starts[order], found.firsts, side="right") - 1
    are_within: Bools = (at >= 0) & (found.lasts <= furthest[np.maximum(at, 0)])
    return are_within
