"""Keep together children that start together, are kept alive, and end together: a model's workers, or the frontends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from bertstream.workers.process.child import Child, ChildFailed, ChildSpec, describe

log = logging.getLogger(__name__)

HEALTHY_SECONDS = 60.0  # a child that has lived this long starts with a clean record
MAX_DELAY_SECONDS = 30.0


def restart_delay(failures: int) -> float:
    """Return the seconds to wait before a restart, after this many failures in a row: 0, then 0.5, 1, 2, … 30."""
    return 0.0 if failures <= 1 else min(0.25 * 2.0 ** min(failures - 1, 10), MAX_DELAY_SECONDS)


class Group:
    """Keep one process alive for each spec, from `start` to `end`."""

    def __init__(self, specs: Sequence[ChildSpec]) -> None:
        self.specs = tuple(specs)
        self._children: dict[str, Child] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()
        self._new_life = asyncio.Event()

    @property
    def children(self) -> list[Child]:
        """Return the current process of each spec."""
        return list(self._children.values())

    async def start(self) -> None:
        """Return once all children are ready.

        Raises ChildFailed where one cannot start; the others must then be ended.
        """
        first_lives = [asyncio.get_running_loop().create_future() for _ in self.specs]
        self._keepers = [
            asyncio.create_task(self._keep(spec, ready)) for spec, ready in zip(self.specs, first_lives, strict=True)
        ]
        await asyncio.gather(*first_lives)

    async def living(self, name: str) -> Child:
        """Return the child of this name, once it is ready, in whichever of its lives."""
        while True:
            self._new_life.clear()
            child = self._children.get(name)
            if child is None or not child.alive:
                await self._new_life.wait()
                continue
            with contextlib.suppress(ChildFailed):
                await asyncio.shield(child.ready)
                return child

    async def end(self, seconds: float, hurry: asyncio.Event) -> None:
        """Have all children drain, and kill those left after `seconds`, or when `hurry` is set."""
        self._ending.set()
        for child in self.children:
            child.stop()
        await self._gone(seconds, hurry)
        for child in self.children:
            child.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _keep(self, spec: ChildSpec, first_ready: asyncio.Future[None]) -> None:
        """Keep one child alive until the end; its first life must succeed."""
        failures, life = 0, 0
        while not self._ending.is_set():
            started = time.monotonic()
            try:
                how = await self._live(spec, life, first_ready)
            except Exception as error:
                failed = self._failed(spec, error)
                if not first_ready.done():
                    first_ready.set_exception(failed)
                    return
                how = str(failed)
            if self._ending.is_set():
                return
            failures = 1 if time.monotonic() - started > HEALTHY_SECONDS else failures + 1
            delay = restart_delay(failures)
            log.error("%s died and is replaced", spec.name, extra={"status": how, "delay": delay})
            await self._pause(delay)
            life += 1

    def _failed(self, spec: ChildSpec, error: Exception) -> ChildFailed:
        """Return why a life ended; whatever it was, somebody waits for the child, and it must not stay behind."""
        if isinstance(error, ChildFailed):
            return error
        log.error("%s cannot be kept", spec.name, exc_info=error)
        if child := self._children.get(spec.name):
            child.kill()
        return ChildFailed(f"{spec.name} cannot be kept: {error}")

    async def _live(self, spec: ChildSpec, life: int, first_ready: asyncio.Future[None]) -> str:
        """Live one life from start to end, and return how it ended. Raises ChildFailed if the child was never ready."""
        child = self._children[spec.name] = await Child.start(spec, life)
        self._new_life.set()
        if self._ending.is_set():
            child.kill()
        watching = asyncio.create_task(child.wait())
        await asyncio.wait((child.ready, watching), return_when=asyncio.FIRST_COMPLETED)
        if child.ready.done() and child.ready.exception() is None:
            log.info("%s is ready", spec.name, extra={"pid": child.pid, "life": life})
            if not first_ready.done():
                first_ready.set_result(None)
        status = await watching
        if not self._ending.is_set():
            spec.on_death(child.cause(status))
        child.ready.result()
        return child.failure or describe(status)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)

    async def _gone(self, seconds: float, hurry: asyncio.Event) -> None:
        """Wait until all have ended by themselves, for `seconds` at most, or until `hurry` is set."""
        going = asyncio.gather(*self._keepers, return_exceptions=True)
        hurrying = asyncio.create_task(hurry.wait())
        waiting: list[asyncio.Future[Any]] = [asyncio.shield(going), hurrying]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurrying.cancel()
