"""How long to wait before something is tried again."""

from __future__ import annotations

from collections.abc import Callable


def backoff_seconds(failures: int, first: float, longest: float, jitter: Callable[[], float]) -> float:
    """Return the seconds to wait after so many failures before: from `first` on twice as long each time.

    `jitter` returns a number from 0 to 1, and takes up to half of the time away, so that callers do not come at once.
    """
    return min(first * float(2**failures), longest) * (0.5 + jitter() / 2)
