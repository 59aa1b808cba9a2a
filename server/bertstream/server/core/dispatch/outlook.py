"""How long work would have to wait, by what the workers have said last: so that it is refused before anything is done.

What a worker says is as old as its last answer. Since it works off a second's work each second, so much less would
have to be waited for by now, unless more has come; then the worker itself refuses it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from bertstream.server.core.errors import RequestError, overloaded

_MOST_CALLERS = 1024  # that are remembered
# For how long a refusal is remembered at most: so long the workers are busy with what they have let in, and a caller
# whose call would fit after all is told to come again soon.
_MOST_SECONDS = 0.25
_PART_OF_WAIT = 8  # and no more than such a part of what the call might have waited: its worker must not run dry
_LEAST_RETRY_SECONDS = 0.02


@dataclass(slots=True)
class Wait:
    """What one worker has said, of one kind of work."""

    seconds: float = 0.0
    at: float = -math.inf  # time.monotonic()

    def say(self, seconds: float) -> None:
        """Take what the worker says now."""
        self.seconds, self.at = seconds, time.monotonic()

    def left(self, now: float) -> float:
        """Return how long work would have to wait that came now."""
        return max(0.0, self.seconds - (now - self.at))


@dataclass(frozen=True, slots=True)
class _Refusal:
    until: float
    slack: float  # seconds that the refused call had; one that has more may fit


class Outlook:
    """Of one kind of work of one model: what callers were refused lately, beside what their workers say."""

    def __init__(self) -> None:
        self._refused: dict[str, _Refusal] = {}  # by the caller's name

    def check(self, caller: str, deadline: float, waits: Iterable[Wait]) -> None:
        """Raise OVERLOADED where no worker would have answered by the deadline. One without a deadline is let pass."""
        now = time.monotonic()
        slack = deadline - now
        if math.isinf(slack):
            return
        least = min((wait.left(now) for wait in waits), default=0.0)
        if least > slack:
            raise _too_late(least - slack)
        refusal = self._refused.get(caller)
        if refusal is not None and now < refusal.until and slack <= refusal.slack:
            raise _too_late(refusal.until - now)

    def refused(self, caller: str, deadline: float, retry_seconds: float) -> None:
        """Remember that a worker has refused a call, which would have fitted in so many seconds."""
        now = time.monotonic()
        slack = deadline - now
        if math.isinf(slack) or slack <= 0:
            return
        if len(self._refused) >= _MOST_CALLERS:
            self._refused = {name: each for name, each in self._refused.items() if now < each.until}
        if len(self._refused) < _MOST_CALLERS:
            seconds = min(retry_seconds, slack / _PART_OF_WAIT, _MOST_SECONDS)
            self._refused[caller] = _Refusal(now + seconds, slack)


def _too_late(seconds: float) -> RequestError:
    message = "what waits already leaves this no time before its deadline"
    return overloaded(message, round(max(seconds, _LEAST_RETRY_SECONDS), 3))
