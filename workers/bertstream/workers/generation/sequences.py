"""A sequence under way: its tokens, their scores, and where in the cache its past is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bertstream.workers.generation.cache import CacheRows
from bertstream.workers.generation.processors import Rules
from bertstream.workers.ragged import Ints


class TokenSequence:
    """One row of a step.

    Of its tokens the last one is not in the cache yet: the step that computes it writes it there. So a sequence holds
    as many rows as it has tokens, but for a while between two steps.
    """

    def __init__(
        self, start: NDArray[np.int32], limit: int, rules: Rules, source: Ints | None = None, type_id: int = 0
    ) -> None:
        self.rules = rules
        self.type_id = type_id  # of new tokens
        self.source = source  # rows of the encoder's text, where there is one; they are not the sequence's own
        self.limit = limit  # of new tokens
        self.start = start.size
        self.length = start.size
        self.held = 0
        self._tokens = np.empty(start.size + limit, np.int32)
        self._tokens[: start.size] = start
        self._rows = np.empty(start.size + limit, np.int64)
        self._scores = np.empty(limit, np.float32)

    @property
    def tokens(self) -> NDArray[np.int32]:
        """All of them [length], a prompt or the decoder's start token first."""
        return self._tokens[: self.length]

    @property
    def generated(self) -> NDArray[np.int32]:
        """The new ones [count]."""
        return self._tokens[self.start : self.length]

    @property
    def count(self) -> int:
        """How many new ones there are."""
        return self.length - self.start

    @property
    def scores(self) -> NDArray[np.float32]:
        """Of the new ones [count]."""
        return self._scores[: self.count]

    @property
    def rows(self) -> Ints:
        """Its rows of the cache [held], in the order of its tokens."""
        return self._rows[: self.held]

    @property
    def ended(self) -> bool:
        """Whether the last token is one that ends a sequence."""
        return self.count > 0 and self.rules.ends(int(self._tokens[self.length - 1]))

    def hold(self, cache: CacheRows) -> None:
        """Sees to it that there is a row for each token."""
        self._rows[self.held : self.length] = cache.allocate(self.length - self.held)
        self.held = self.length

    def append(self, token: int, score: float) -> None:
        """One more new token."""
        self._tokens[self.length] = token
        self._scores[self.count] = score
        self.length += 1

    def copy(self) -> TokenSequence:
        """Another one with the same tokens, and nothing in the cache."""
        twin = TokenSequence(self._tokens[: self.start], self.limit, self.rules, self.source, self.type_id)
        twin.length = self.length
        twin._tokens[: self.length] = self.tokens
        twin._scores[: self.count] = self.scores
        return twin

    def fork(self, cache: CacheRows) -> TokenSequence:
        """Another one with the same past."""
        twin = self.copy()
        twin.held = self.held
        twin._rows[: self.held] = self.rows
        cache.share(self.rows)
        return twin

    def release(self, cache: CacheRows) -> None:
        """Give its rows back."""
        cache.release(self.rows)
        self.held = 0
