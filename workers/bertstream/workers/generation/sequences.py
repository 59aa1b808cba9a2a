"""Represent a sequence under way: its tokens, their scores, and the rows of the cache that hold its past."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bertstream.workers.generation.cache import CacheRows
from bertstream.workers.generation.processors import Rules
from bertstream.workers.ragged import Ints


class TokenSequence:
    """Represent one row of a step.

    The last of its tokens is not in the cache yet: the step that computes it writes it there. So between two steps a
    sequence holds one row less than it has tokens.
    """

    def __init__(
        self, start: NDArray[np.int32], limit: int, rules: Rules, source: Ints | None = None, type_id: int = 0
    ) -> None:
        self.rules = rules
        self.type_id = type_id  # type of new tokens
        self.source = source  # rows of the encoder's text, where there is one; the sequence does not own them
        self.limit = limit  # the most new tokens
        self.start = start.size
        self.length = start.size
        self.held = 0
        self._tokens = np.empty(start.size + limit, np.int32)
        self._tokens[: start.size] = start
        self._rows = np.empty(start.size + limit, np.int64)
        self._scores = np.empty(limit, np.float32)

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Return all tokens [length], a prompt or the decoder's start token first."""
        return self._tokens[: self.length]

    @property
    def generated(self) -> NDArray[np.int32]:
        """Return the new tokens [count]."""
        return self._tokens[self.start : self.length]

    @property
    def count(self) -> int:
        """Return the number of new tokens."""
        return self.length - self.start

    @property
    def scores(self) -> NDArray[np.float32]:
        """Return the scores of the new tokens [count]."""
        return self._scores[: self.count]

    @property
    def rows(self) -> Ints:
        """Return its rows of the cache [held], in the order of its tokens."""
        return self._rows[: self.held]

    @property
    def ended(self) -> bool:
        """Return whether the last token is one that ends a sequence."""
        return self.count > 0 and self.rules.ends(int(self._tokens[self.length - 1]))

    def hold(self, cache: CacheRows) -> None:
        """Make sure that there is a row for each token."""
        self._rows[self.held : self.length] = cache.allocate(self.length - self.held)
        self.held = self.length

    def append(self, token: int, score: float) -> None:
        """Append a new token."""
        self._tokens[self.length] = token
        self._scores[self.count] = score
        self.length += 1

    def copy(self) -> TokenSequence:
        """Return a sequence with the same tokens, and nothing in the cache."""
        twin = TokenSequence(self._tokens[: self.start], self.limit, self.rules, self.source, self.type_id)
        twin.length = self.length
        twin._tokens[: self.length] = self.tokens
        twin._scores[: self.count] = self.scores
        return twin

    def fork(self, cache: CacheRows) -> TokenSequence:
        """Return a sequence with the same past."""
        twin = self.copy()
        twin.held = self.held
        twin._rows[: self.held] = self.rows
        cache.share(self.rows)
        return twin

    def release(self, cache: CacheRows) -> None:
        """Give its rows back."""
        cache.release(self.rows)
        self.held = 0
