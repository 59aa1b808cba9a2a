"""The timeout of a method, over all the messages that it sends."""

from __future__ import annotations

from time import monotonic

from bertstream.client._errors import timed_out


class Deadline:
    """A point in time, or none, that counts from now."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else monotonic() + timeout

    def left(self, default: float | None = None) -> float | None:
        """Seconds that are left; the default where there is no end. DeadlineExceeded where none are."""
        if self._end is None:
            return default
        seconds = self._end - monotonic()
        if seconds <= 0:
            raise timed_out()
        return seconds

    def cut(self, seconds: float) -> float:
        """So many seconds, or as many as are left."""
        return min(seconds, self.left() or seconds)
