"""The timeout of a method, which covers all the messages that it sends."""

from __future__ import annotations

from time import monotonic

from bertstream.client._errors import RpcError, timed_out


class Deadline:
    """The end of a timeout that starts now, or no end for None."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else monotonic() + timeout

    def left(self, default: float | None = None) -> float | None:
        """Return the seconds left, or the default if there is no end. Raises DeadlineExceeded after the end."""
        if self._end is None:
            return default
        seconds = self._end - monotonic()
        if seconds <= 0:
            raise timed_out()
        return seconds

    def wait_before(self, seconds: float, error: RpcError) -> float:
        """Return the seconds to wait until a call is made again. Raises its error where no time would be left then."""
        if not self.allows(seconds):
            raise error
        return seconds

    def allows(self, seconds: float) -> bool:
        """Return whether there is time left after so many seconds."""
        return self._end is None or monotonic() + seconds < self._end
