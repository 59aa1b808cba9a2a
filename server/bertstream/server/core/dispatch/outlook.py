"""How long work would have to wait, by what the workers last said, so that late work is refused at once.

What a worker said is as old as its last answer. It works off a second of work each second, so by now the wait is
that much shorter, unless more work has come; then the worker itself refuses what would be late. Nor does a worker have
to be asked where a caller's own work that is under way takes all the time that its next call has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bertstream.server.core.errors import RequestError, deadline_exceeded, overloaded
from bertstream.workers.contract import INTERACTIVE
from bertstream.workers.serving.scheduler import PATIENCE_SECONDS

_MOST_CALLERS = 1024  # whose refusals are remembered
# The longest time for which a refusal is remembered: workers are busy that long with the work that they have admitted,
# and a caller whose call would fit after all is told to try again soon.
_MOST_SECONDS = 0.25
# Nor is it remembered for more than this part, 1 in 8, of the time that the call had, and half of the time for which
# workers have work, the least busy one for others or all for this caller, so that none runs idle meanwhile.
_PART_OF_WAIT = 8
_PART_OF_WORK = 2
_LEAST_RETRY_SECONDS = 0.02
# A call that has less time goes before others of its caller, so what its caller has under way does not matter to it.
LEAST_SLACK_SECONDS = PATIENCE_SECONDS[INTERACTIVE]
# A caller is told to wait longer the more of its calls are refused, or all of them would soon come again at once: with
# N that wait, sqrt(100 N) come a second.
_RETRIES_PER_SECOND = 100.0
_MOST_RETRY_SECONDS = 5.0
_RATE_SECONDS = 1.0  # the age at which a refusal counts a third


@dataclass(slots=True)
class Wait:
    """How long work of one kind would have to wait at one worker, as that worker last said."""

    seconds: float = 0.0
    batch_seconds: float = 0.0  # that a full batch of interactive work takes there
    at: float = -math.inf  # time.monotonic()

    def say(self, seconds: float, batch_seconds: float = 0.0) -> None:
        """Note what the worker says now."""
        self.seconds, self.batch_seconds, self.at = seconds, batch_seconds, time.monotonic()

    def say_seconds(self, seconds: float) -> None:
        """Note only how long work would have to wait."""
        self.say(seconds, self.batch_seconds)

    def left(self, now: float) -> float:
        """Return how many seconds work that comes now would have to wait."""
        return max(0.0, self.seconds - (now - self.at))


@dataclass(frozen=True, slots=True)
class _Refusal:
    until: float
    slack: float  # seconds that the refused call had; one that has more may fit


class Outlook:
    """The recent refusals of one kind of work of one model, judged beside what its workers say."""

    def __init__(
        self, waits: Callable[[], Iterable[Wait]], behind_own: Callable[[str], float] = lambda caller: 0.0
    ) -> None:
        """Take what returns how long such work would have to wait at each living worker.

        behind_own: returns the seconds after which a caller's own work would be done that is under way by now.
        """
        self._waits = waits
        self._behind_own = behind_own
        self._refused: dict[str, _Refusal] = {}  # by the caller's name
        self._rates: dict[str, tuple[float, float]] = {}  # by the same: refusals a second, and when that was

    def check(self, caller: str, deadline: float) -> None:
        """Raise OVERLOADED where no worker would answer by the deadline; a call without a deadline always passes.

        One whose deadline is over has had its time, however idle the workers are: it raises DEADLINE_EXCEEDED.
        """
        now = time.monotonic()
        slack = deadline - now
        if math.isinf(slack):
            return
        if slack <= 0:
            raise deadline_exceeded()
        refusal = self._refused.get(caller)
        if refusal is not None and now < refusal.until and slack <= refusal.slack:
            raise self._too_late(caller, refusal.until - now)
        if (least := self._least_wait(now)) > slack:
            raise self._too_late(caller, least - slack)
        if slack >= LEAST_SLACK_SECONDS and (behind := self._behind_own(caller)) > slack:
            raise self._too_late(caller, behind - slack)

    def refused(self, caller: str, deadline: float, retry_seconds: float) -> None:
        """Remember that a worker refused a call that would have fitted after `retry_seconds`."""
        now = time.monotonic()
        slack = deadline - now
        if math.isinf(slack) or slack <= 0:
            return
        if len(self._refused) >= _MOST_CALLERS:
            self._refused = {name: each for name, each in self._refused.items() if now < each.until}
        if len(self._refused) < _MOST_CALLERS:
            busy = max(self._least_wait(now), self._behind_own(caller)) / _PART_OF_WORK
            self._refused[caller] = _Refusal(
                now + min(retry_seconds, slack / _PART_OF_WAIT, busy, _MOST_SECONDS), slack
            )

    def retry_seconds(self, caller: str, least: float) -> float:
        """Count a refusal, and return after how many seconds its caller is to try again: `least`, or later in a crowd.

        Whoever refuses counts: a worker knows only of the calls that it is asked for.
        """
        crowd = min(self._refusals_per_second(caller, time.monotonic()) / _RETRIES_PER_SECOND, _MOST_RETRY_SECONDS)
        return round(max(least, crowd, _LEAST_RETRY_SECONDS), 3)

    def _least_wait(self, now: float) -> float:
        return min((wait.left(now) for wait in self._waits()), default=0.0)

    def _too_late(self, caller: str, seconds: float) -> RequestError:
        message = "the work that waits already leaves no time for this before its deadline"
        return overloaded(message, self.retry_seconds(caller, seconds))

    def _refusals_per_second(self, caller: str, now: float) -> float:
        """Count one more, and return how many there were lately; older ones count exponentially less."""
        rate, at = self._rates.pop(caller, (0.0, now))
        rate = rate * math.exp((at - now) / _RATE_SECONDS) + 1 / _RATE_SECONDS
        if len(self._rates) >= _MOST_CALLERS:
            self._rates.pop(next(iter(self._rates)))  # the one that was refused the longest ago
        self._rates[caller] = (rate, now)
        return rate
