"""Logs the progress of a drain: why it began, how many calls are left, and how it ended.

Lives in the supervisor's process. Each frontend reports the number of its calls at once and at each change; when its
time is over it reports how many it cuts off, and nothing after that (gate.py).
"""

from __future__ import annotations

import asyncio
import logging
import time

log = logging.getLogger(__name__)

REPORT_SECONDS = 5.0  # between log lines while calls are left


class DrainLog:
    """One drain of all frontends."""

    def __init__(self, frontends: int, drain_seconds: float, notice_seconds: float = 0.0) -> None:
        self._frontends = frontends
        self._drain_seconds = drain_seconds
        self._notice_seconds = notice_seconds
        self._began: float | None = None
        self._left: dict[str, int] = {}  # calls, by frontend
        self._all_reported = asyncio.Event()
        self._reporting: asyncio.Task[None] | None = None

    def signalled(self, name: str) -> None:
        """Note that a signal told the server to stop; the second one means not to wait for calls."""
        if self._began is not None:
            log.warning("%s again: calls are not waited for", name, extra={"signal": name, "calls": self._calls})
            return
        self._began = time.monotonic()
        self._left.clear()  # of frontends that were signalled by themselves before
        self._all_reported.clear()
        log.info("%s: draining", name, extra={"signal": name, "drain_seconds": self._drain_seconds})
        self._reporting = asyncio.create_task(self._report())

    def reported(self, frontend: str, calls: int) -> None:
        """Take a frontend's count of its calls."""
        self._left[frontend] = calls
        if len(self._left) == self._frontends:
            self._all_reported.set()

    def ended(self) -> None:
        """Log the end, with the calls that were cut off, once all processes are gone. Without a drain, do nothing."""
        if self._began is None or self._reporting is None:
            return
        self._reporting.cancel()
        extra = {"seconds": self._seconds, "cut_off": self._calls}
        log.log(logging.WARNING if self._calls else logging.INFO, "stopped", extra=extra)

    async def _report(self) -> None:
        """Log a line once all frontends have reported, then one every REPORT_SECONDS, and one when the time is over."""
        try:
            async with asyncio.timeout(self._notice_seconds + REPORT_SECONDS):
                await self._all_reported.wait()
        except TimeoutError:
            pass  # a frontend that is just being replaced does not report, and has no calls
        self._say("calls are left")
        while self._calls:
            until_over = self._notice_seconds + self._drain_seconds - self._seconds
            await asyncio.sleep(max(0.0, min(REPORT_SECONDS, until_over)))
            if until_over <= REPORT_SECONDS:
                break
            if self._calls:
                self._say("calls are left")
        if self._calls:
            log.warning("the time is over: calls are cut off", extra={"calls": self._calls, "seconds": self._seconds})

    def _say(self, what: str) -> None:
        log.info("%s", what, extra={"calls": self._calls, "seconds": self._seconds})

    @property
    def _calls(self) -> int:
        return sum(self._left.values())

    @property
    def _seconds(self) -> float:
        """Seconds since the drain began."""
        return 0.0 if self._began is None else round(time.monotonic() - self._began, 1)
