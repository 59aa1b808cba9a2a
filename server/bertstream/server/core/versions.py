"""The versions of models that this frontend serves: each begins once its workers answer, and ends once idle."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor

from bertstream.server.core.measures import ModelMeasures
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.settings import FrontendSettings, ModelSettings
from bertstream.workers.measuring.frontend_metrics import HELD_TOKENS
from bertstream.workers.measuring.instruments import Registry, reading
from bertstream.workers.measuring.snapshots import Value

log = logging.getLogger(__name__)


def in_turn(model: ModelSettings, frontend: FrontendSettings) -> ModelSettings:
    """Return the model with its workers in an order of this frontend's own.

    Of workers with equally little to do the first gets the next call, and no frontend sees what others have sent: with
    one order for all frontends, a few calls at a time would all go to the same worker.
    """
    first = frontend.number * len(model.sockets) // frontend.frontends
    return dataclasses.replace(model, sockets=model.sockets[first:] + model.sockets[:first])


class Versions:
    """The models of one frontend, and the old versions that still have calls."""

    def __init__(
        self,
        frontend: FrontendSettings,
        threads: Executor,
        on_change: Callable[[], None],
        registry: Registry | None = None,
    ) -> None:
        self._registry = registry or Registry()
        self._registry.read(self._readings)
        self.models = Models()
        self._frontend = frontend
        self._threads = threads
        self._on_change = on_change
        self._changing = asyncio.Lock()
        self._retiring: dict[ServedModel, asyncio.Task[None]] = {}

    async def serve(self, wanted: Sequence[ModelSettings]) -> None:
        """Serve just these versions: new calls get all of them at once, and calls under way keep the version they have.

        Returns once all of their workers have greeted. If anything goes wrong before, nothing changes.
        """
        async with self._changing:
            there = {model.serial: model for model in self.models}
            new = await self._connected([each for each in wanted if each.serial not in there])
            known = there | {model.serial: model for model in new}
            self.models.replace([known.pop(each.serial) for each in wanted])
            for model in known.values():
                self._retiring[model] = asyncio.create_task(self._retire(model))
            self._on_change()

    def _readings(self) -> Iterator[Value]:
        for model in (*self.models, *self._retiring):
            yield reading(HELD_TOKENS, model.admission.tokens, model.name, "encode")
            yield reading(HELD_TOKENS, model.generation_admission.tokens, model.name, "generate")

    async def drained(self, serials: Collection[int]) -> None:
        """Return once these versions, which are no longer served, have no calls under way."""
        tasks = [task for model, task in self._retiring.items() if model.serial in serials]
        if tasks:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Drop all connections."""
        for model in (*self.models, *self._retiring):
            await model.dispatcher.close()

    async def _connected(self, wanted: Sequence[ModelSettings]) -> list[ServedModel]:
        made: list[ServedModel] = []
        try:
            for each in wanted:
                measures, own = ModelMeasures(self._registry, each.name), in_turn(each, self._frontend)
                made.append(ServedModel(own, self._frontend, self._threads, self._on_change, measures))
            for model in made:
                await model.dispatcher.wait_live()
        except BaseException:
            for model in made:
                await model.dispatcher.close()
            raise
        return made

    async def _retire(self, model: ServedModel) -> None:
        """Wait for the calls of a version as long as a drain may take, then cut off those that still run."""
        try:
            await asyncio.wait_for(model.idle(), self._frontend.drain_seconds)
        except TimeoutError:
            log.warning("calls on an old version of %s are cut off", model.name)
        await model.dispatcher.close()
        del self._retiring[model]
