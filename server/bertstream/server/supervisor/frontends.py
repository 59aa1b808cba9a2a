"""What the supervisor's process asks of its frontends, also of those that are started again meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bertstream.server.messages import AwaitDrained, ForFrontend, ServeModels, UseKeys
from bertstream.server.settings import KeyEntry, ModelSettings
from bertstream.workers.process.child import ChildFailed
from bertstream.workers.process.control import NoAnswer
from bertstream.workers.process.group import Group

CONNECT_SECONDS = 120.0  # the time that frontends have to connect to new workers
_ATTEMPTS = 3  # how often a frontend may die over one question


class FrontendsFailed(Exception):
    """A frontend could not do what it was asked for."""


class Frontends:
    """All frontend processes."""

    def __init__(self, group: Group) -> None:
        self._group = group

    async def serve(self, models: Sequence[ModelSettings]) -> None:
        """Return once each of them serves exactly these models. Raises FrontendsFailed."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._ask(ServeModels(tuple(models)))
        except TimeoutError:
            raise FrontendsFailed(f"not connected to the workers after {CONNECT_SECONDS:.0f} s") from None

    async def drained(self, serials: Sequence[int]) -> None:
        """Return once none of them has a call under way on these versions of models. Raises FrontendsFailed."""
        await self._ask(AwaitDrained(tuple(serials)))

    async def use_keys(self, keys: Sequence[KeyEntry]) -> None:
        """Return once each of them knows callers by exactly these keys. Raises FrontendsFailed."""
        await self._ask(UseKeys(tuple(keys)))

    async def _ask(self, question: ForFrontend) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask_one(spec.name, question)) for spec in self._group.specs]
        if failed := [failure for task in tasks if (failure := task.result())]:
            raise FrontendsFailed(failed[0])

    async def _ask_one(self, name: str, question: ForFrontend) -> str:
        """Ask one frontend, again if it dies and is replaced; return what went wrong, or an empty text."""
        for _ in range(_ATTEMPTS):
            child = await self._group.living(name)
            try:
                await child.ask(question)
            except ChildFailed:
                continue
            except NoAnswer as error:
                return str(error)
            return ""
        return f"{name} died {_ATTEMPTS} times"
