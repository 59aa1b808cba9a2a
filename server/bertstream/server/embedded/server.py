"""The server as an object: models behind Python calls, with workers in processes of their own."""

from __future__ import annotations

import asyncio
import dataclasses
from types import TracebackType
from typing import Any, Self

from bertstream.server.config import ConfigError
from bertstream.server.core.models import Models
from bertstream.server.core.serving import ServingCore
from bertstream.server.embedded.keeping import Keeper
from bertstream.server.embedded.options import embedded_config
from bertstream.workers.native.processor import ProcessorError
from bertstream.workers.process.child import ChildFailed
from bertstream.workers.programs.description import DescriptionError
from bertstream.workers.trust.ownership import TrustError

_GRACE_SECONDS = 15.0  # beyond the drain, for workers that must be killed


class ServerFailed(Exception):
    """The server could not start; the message is one line for people."""


class EmbeddedServer:
    """Serve models in this process: tokenization, admission, batching and tasks here, computation in child processes.

    It compiles or loads checkpoints, chooses devices and threads, and replaces workers that die, as `bertstream serve`
    with the same options does, but has no port. Use it in an event loop: `async with EmbeddedServer(models=[…]) as
    server`. All calls belong to that loop. When the process ends, however it does, so do the workers.
    """

    def __init__(self, *, cores: int = 0, **options: Any) -> None:
        """Take options as in the server's TOML file: `EmbeddedServer(models=["bert-base-uncased"], dtype="int8")`.

        cores: how many workers on the CPU may fill, where others use the rest of the machine; 0: all of them.

        Raises ConfigError, which names the option.
        """
        self._config = embedded_config(options)
        self._keeper = Keeper(self._config, cores)
        self._core: ServingCore | None = None
        self._changed = asyncio.Event()

    @property
    def core(self) -> ServingCore:
        """What serves the models, for doors that lead to it."""
        if self._core is None:
            raise RuntimeError("the server is not running: use `async with`")
        return self._core

    @property
    def models(self) -> Models:
        """The models, the default one first."""
        return self.core.models

    @property
    def live(self) -> bool:
        """Whether each model has a worker; a lost worker is replaced within seconds."""
        return self._core is not None and self._keeper.alive and self._core.live

    async def __aenter__(self) -> Self:
        """Return once all workers are ready. Raises ConfigError, and ServerFailed."""
        self._keeper.start()
        try:
            settings = await asyncio.wrap_future(self._keeper.ready)
            self._core = ServingCore(dataclasses.replace(settings, name="embedded"), self._changed.set)
            await self._core.serve(settings.models)
        except BaseException as error:
            await self.close()
            if isinstance(error, ChildFailed | DescriptionError | TrustError | OSError):
                raise ServerFailed(str(error)) from error
            if isinstance(error, ProcessorError):
                raise ConfigError(str(error)) from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def drain(self) -> None:
        """Return once no call is under way, or after `drain_seconds`; no more calls may begin."""
        await self.core.drain(lambda under_way: None)

    async def close(self) -> None:
        """End the workers, and return once they are gone; what is under way fails."""
        if self._core is not None:
            await self._core.close()
        self._keeper.stop()
        await asyncio.to_thread(self._keeper.join, self._config.drain_seconds + _GRACE_SECONDS)
        if self._core is not None:
            self._core.end_threads()
