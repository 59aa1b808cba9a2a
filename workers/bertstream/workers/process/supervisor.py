"""Supervise child processes: start and ping them, replace those that die or hang, and stop them in order.

It loads neither torch nor grpc, so that nothing of theirs can bring it down.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bertstream.workers.process.child import ChildFailed
from bertstream.workers.process.group import Group

log = logging.getLogger(__name__)

PING_SECONDS = 1.0
_GRACE_SECONDS = 5.0  # for what a child does after its drain


async def _nothing() -> None:
    return


def _tell_nobody(signal_name: str) -> None:
    return


class Supervisor:
    """Run stages of groups: a stage starts when the one before is ready, and they stop in the opposite order.

    Groups can be added to a stage, and removed, while it runs.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[Group]],
        drain_seconds: float,
        on_ready: Callable[[], None],
        on_stop: Callable[[], Awaitable[None]] = _nothing,
        on_signal: Callable[[str], None] = _tell_nobody,
        signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    ) -> None:
        """Take the stages; `signals` are those that stop it, none where others handle the process's signals."""
        self._signals = tuple(signals)
        self._stages = [list(stage) for stage in stages]
        self._drain_seconds = drain_seconds
        self._on_ready = on_ready
        self._on_stop = on_stop  # called before the first child is stopped
        self._on_signal = on_signal  # called with the name of each signal to stop
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal, or `stop`; a second one ends the drain. Raises ChildFailed if a child cannot start."""
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self._signalled, number.name)
        pinging = asyncio.create_task(self._ping_forever())
        try:
            await self._start()
            await self._stop.wait()
        finally:
            pinging.cancel()
            await self._on_stop()
            await self._end()

    def _signalled(self, name: str) -> None:
        self._on_signal(name)
        self.stop()

    def stop(self) -> None:
        """Begin to drain; when called again, kill."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def add(self, stage: int, group: Group) -> None:
        """Start one more group, and return once it is ready. Raises ChildFailed, and leaves nothing of it then."""
        self._stages[stage].append(group)
        try:
            await group.start()
        except ChildFailed:
            await self.remove(group)
            raise

    async def remove(self, group: Group) -> None:
        """Have a group drain and end; nobody may need it any more."""
        await group.end(self._drain_seconds + _GRACE_SECONDS, self._hurry)
        for stage in self._stages:
            if group in stage:
                stage.remove(group)

    async def _start(self) -> None:
        stopping = asyncio.create_task(self._stop.wait())
        try:
            for stage in self._stages:
                ready = asyncio.gather(*(group.start() for group in stage))
                waiting: list[asyncio.Future[Any]] = [ready, stopping]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._stop.is_set():
                    ready.cancel()
                    await asyncio.gather(ready, return_exceptions=True)  # so that asyncio does not log it
                    return
                ready.result()
        finally:
            stopping.cancel()
        self._on_ready()

    async def _ping_forever(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            for child in [child for stage in self._stages for group in stage for child in group.children]:
                if reason := child.hangs():
                    log.error("%s hangs and is killed", child.spec.name, extra={"pid": child.pid, "reason": reason})
                    child.kill(reason)
                child.ping()

    async def _end(self) -> None:
        self._stop.set()
        for stage in reversed(self._stages):
            seconds = self._drain_seconds + _GRACE_SECONDS
            await asyncio.gather(*(group.end(seconds, self._hurry) for group in stage))
