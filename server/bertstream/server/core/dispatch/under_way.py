"""The interactive work of each caller that workers have now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bertstream.workers.contract import INTERACTIVE, Work


@dataclass(slots=True)
class _Held:
    tokens: int
    weight: float


class UnderWay:
    """Counts the tokens that the workers of a model have of each caller, as far as one frontend knows."""

    def __init__(self) -> None:
        self.tokens = 0  # of all callers
        self._callers: dict[str, _Held] = {}

    @contextmanager
    def counting(self, work: Work) -> Iterator[None]:
        """Count this work, if it is interactive, while the body runs."""
        if work.priority != INTERACTIVE:
            yield
            return
        tokens, held = int(work.batch.ids.size), self._callers.setdefault(work.caller, _Held(0, work.weight))
        held.tokens, held.weight = held.tokens + tokens, work.weight
        self.tokens += tokens
        try:
            yield
        finally:
            self.tokens -= tokens
            held.tokens -= tokens
            if not held.tokens:
                del self._callers[work.caller]

    def tokens_until_done(self, caller: str) -> float:
        """Return the tokens that are computed until all that a caller has under way is done, its own included.

        All callers are taken to be served at once, each by its weight: what others have beyond that comes later.
        """
        own = self._callers.get(caller)
        if own is None:
            return 0.0
        served = own.tokens / own.weight
        return sum(min(each.tokens, served * each.weight) for each in self._callers.values())
