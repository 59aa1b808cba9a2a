"""Whether to try something again, and how long to wait before."""

from __future__ import annotations

from collections.abc import Callable

from bertstream.client._chance import CHANCE
from bertstream.client._errors import Cancelled, Overloaded, RpcError, Unavailable

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.1, 5.0  # of streams


def backoff_seconds(failures: int, first: float, longest: float, jitter: Callable[[], float]) -> float:
    """Return the seconds to wait after so many failures before: from `first` on twice as long each time.

    `jitter` returns a number from 0 to 1, and takes up to half of the time away, so that callers do not come at once.
    """
    return min(first * float(2**failures), longest) * (0.5 + jitter() / 2)


class Backoff:
    """The waiting time before a broken stream is opened again: exponential, with jitter, or as the server asks."""

    def __init__(self, budget_seconds: float, jitter: Callable[[], float] = CHANCE.random) -> None:
        self._budget, self._jitter = budget_seconds, jitter
        self._failures, self._spent = 0, 0.0

    def reset(self) -> None:
        """Start again from the shortest delay, after some progress."""
        self._failures, self._spent = 0, 0.0

    def next_delay(self, error: RpcError) -> float | None:
        """Return the seconds to wait, or None to give up."""
        delay = backoff_seconds(self._failures, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, self._jitter)
        delay = max(delay, error.retry_after or 0.0)
        self._failures, self._spent = min(self._failures + 1, 16), self._spent + delay
        return delay if self._spent <= self._budget else None


def may_pass(error: RpcError) -> bool:
    """Return whether the same call may succeed after a while.

    A call that comes in the moment in which a server stops listening is cut off by gRPC with a bare CANCELLED; one that
    was cancelled on this side says so in other words.
    """
    cut_off = isinstance(error, Cancelled) and not error.reason and error.message == "CANCELLED"
    return cut_off or isinstance(error, Unavailable | Overloaded)
