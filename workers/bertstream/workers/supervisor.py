"""The parent process: starts children, pings them, replaces those that die or hang, and stops them in order.

Loads neither torch nor grpc, so that nothing of theirs can bring it down.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from bertstream.workers.child import Child, ChildFailed, ChildSpec, describe

log = logging.getLogger(__name__)

PING_SECONDS = 1.0
HEALTHY_SECONDS = 60.0  # a child that lived this long starts with a clean record
MAX_DELAY_SECONDS = 30.0


def restart_delay(failures: int) -> float:
    """Seconds to wait before a restart, after so many failures in a row: at once, then 0.5, 1, 2, … 30."""
    return 0.0 if failures <= 1 else min(0.25 * 2.0 ** (failures - 1), MAX_DELAY_SECONDS)


class Supervisor:
    """Runs stages of children: a stage starts when the one before is ready, and they stop in the opposite order."""

    def __init__(
        self, stages: Sequence[Sequence[ChildSpec]], drain_seconds: float, on_ready: Callable[[], None]
    ) -> None:
        self._stages = stages
        self._drain_seconds = drain_seconds
        self._on_ready = on_ready
        self._children: dict[str, Child] = {}
        self._keepers: list[list[asyncio.Task[None]]] = []
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT; a second one ends the drain. Raises ChildFailed if a child cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        pinging = asyncio.create_task(self._ping_forever())
        try:
            await self._start()
            await self._stop.wait()
        finally:
            pinging.cancel()
            await self._end()

    def stop(self) -> None:
        """Begins to drain; said twice, kills."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def _start(self) -> None:
        for stage in self._stages:
            first_lives = [asyncio.get_running_loop().create_future() for _ in stage]
            self._keepers.append(
                [asyncio.create_task(self._keep(spec, ready)) for spec, ready in zip(stage, first_lives, strict=True)]
            )
            stopping = asyncio.create_task(self._stop.wait())
            ready = asyncio.gather(*first_lives)
            waiting: list[asyncio.Future[Any]] = [ready, stopping]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if self._stop.is_set():
                ready.cancel()
                return
            ready.result()
        self._on_ready()

    async def _keep(self, spec: ChildSpec, first_ready: asyncio.Future[None]) -> None:
        """Keeps one child alive until the end; its first life must succeed."""
        failures, life = 0, 0
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                how = await self._live(spec, life, first_ready)
            except ChildFailed as error:
                if not first_ready.done():
                    first_ready.set_exception(error)
                    return
                how = str(error)
            if self._stop.is_set():
                return
            failures = 1 if time.monotonic() - started > HEALTHY_SECONDS else failures + 1
            delay = restart_delay(failures)
            log.error("%s died and is replaced", spec.name, extra={"status": how, "delay": delay})
            await self._pause(delay)
            life += 1

    async def _live(self, spec: ChildSpec, life: int, first_ready: asyncio.Future[None]) -> str:
        """One life, from start to end; says how it ended. Raises ChildFailed if it was never ready."""
        child = self._children[spec.name] = await Child.start(spec, life)
        if self._stop.is_set():
            child.kill()
        watching = asyncio.create_task(child.wait())
        await asyncio.wait((child.ready, watching), return_when=asyncio.FIRST_COMPLETED)
        if child.ready.done() and child.ready.exception() is None:
            log.info("%s is ready", spec.name, extra={"pid": child.pid, "life": life})
            if not first_ready.done():
                first_ready.set_result(None)
        status = await watching
        child.ready.result()
        return child.failure or describe(status)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    async def _ping_forever(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            for child in self._children.values():
                if reason := child.hangs():
                    log.error("%s hangs and is killed", child.spec.name, extra={"pid": child.pid, "reason": reason})
                    child.kill(reason)
                child.ping()

    async def _end(self) -> None:
        self._stop.set()
        for stage, keepers in zip(reversed(self._stages[: len(self._keepers)]), reversed(self._keepers), strict=True):
            children = [self._children[spec.name] for spec in stage if spec.name in self._children]
            for child in children:
                child.stop()
            await self._gone(keepers)
            for child in (self._children[spec.name] for spec in stage if spec.name in self._children):
                child.kill()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def _gone(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        """Waits for a stage to go by itself, as long as the drain may take, or until someone is in a hurry."""
        going = asyncio.gather(*keepers, return_exceptions=True)
        hurry = asyncio.create_task(self._hurry.wait())
        waiting: list[asyncio.Future[Any]] = [asyncio.shield(going), hurry]
        await asyncio.wait(waiting, timeout=self._drain_seconds + 5.0, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
