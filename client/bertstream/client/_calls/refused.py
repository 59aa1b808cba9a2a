"""The items of a bulk stream that the server does not take for now, and when they may come again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bertstream.client._calls.backoff import FIRST_DELAY_SECONDS
from bertstream.client._calls.lanes import READY
from bertstream.client._errors import Overloaded, RpcError, Unavailable


def may_pass_later(error: RpcError) -> bool:
    """Return whether the same item may succeed later: the server says when it may come again."""
    return isinstance(error, Unavailable | Overloaded) and error.retry_after is not None


@dataclass(slots=True)
class Refused:
    """All of them wait until the last may come again, unless none is answered for `seconds`: then it is given up."""

    seconds: float
    jitter: Callable[[], float]
    clock: Callable[[], float]
    error: RpcError | None = None
    """The last one's."""
    _sequences: list[int] = field(default_factory=list)
    _until: float = READY
    _since: float | None = None  # when the first was refused after the last answer

    def __bool__(self) -> bool:
        return bool(self._sequences)

    def add(self, sequence: int, error: RpcError) -> bool:
        """Add one item, or return False where it is time to give up."""
        now = self.clock()
        self._since = now if self._since is None else self._since
        if now - self._since > self.seconds:
            return False
        delay = max(error.retry_after or 0.0, FIRST_DELAY_SECONDS * (0.5 + self.jitter() / 2))
        self._sequences.append(sequence)
        self._until, self.error = max(self._until, now + delay), error
        return True

    def answered(self) -> None:
        """Note that the server has answered an item."""
        self._since = None

    def rest(self) -> float:
        """Return the seconds until they may come again. They are taken to be due then."""
        seconds = max(0.0, self._until - self.clock())
        self._until = READY
        return seconds

    def due(self) -> list[int]:
        """Return those that may come again now, and forget them."""
        if self._until > self.clock():
            return []
        due, self._sequences = self._sequences, []
        return due
