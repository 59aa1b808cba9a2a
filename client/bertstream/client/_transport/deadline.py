"""The timeout of a method, which covers all the messages that it sends."""

from __future__ import annotations

from numbers import Real
from time import monotonic
from typing import Any

from bertstream.client._errors import RpcError, timed_out

MOST_SECONDS = 1e9  # about 31 years; gRPC counts nanoseconds since 1970 in 63 bits


def seconds_of(timeout: object) -> float | None:
    """Return a caller's timeout in seconds, at most what gRPC can count, or None for none.

    Raises TypeError for what is not a number, and ValueError for a negative one or NaN.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, Real):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    seconds: Any = timeout
    if not seconds >= 0:
        raise ValueError(f"timeout must be at least 0, not {seconds}")
    return float(min(seconds, MOST_SECONDS))


class Deadline:
    """The end of a timeout that starts now, or no end for None. Raises as `seconds_of` for an unusable one."""

    def __init__(self, timeout: float | None) -> None:
        seconds = seconds_of(timeout)
        self._end = None if seconds is None else monotonic() + seconds

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
