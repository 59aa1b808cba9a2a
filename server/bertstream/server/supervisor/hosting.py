"""What runs workers, whoever serves their models: compiles, decides how to launch them, and keeps them.

`bertstream serve` adds frontends and ports to it (app.py). A host is the same without them, for a process that serves
the models itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.settings import FrontendSettings, Limits
from bertstream.server.supervisor.compilation import run_compiler
from bertstream.server.supervisor.folders import WORKERS_NAME, private_folder
from bertstream.server.supervisor.launching import Launch, Launcher
from bertstream.server.supervisor.sources import ModelChoice, chosen_models
from bertstream.workers.compile.compiling import Compiled, CompileStep, CompileTask
from bertstream.workers.process.group import Group
from bertstream.workers.process.supervisor import Supervisor

log = logging.getLogger(__name__)


def compile_task(config: ServeConfig, choices: Sequence[ModelChoice]) -> CompileTask:
    """Return the task of compiling all models that are served from the start.

    Raises ConfigError where the cache is no folder, or is to be below what is none.
    """
    if config.cache:
        _check_cache(Path(config.cache))
    return CompileTask(tuple(each.to_compile for each in choices), config.cache, config.log_level)


def _check_cache(cache: Path) -> None:
    for place in (cache, *cache.parents):
        if os.path.isdir(place):  # noqa: PTH112 - Path's own raises where it may not look
            return
        if os.path.exists(place):  # noqa: PTH110
            raise ConfigError(f"cache: {place} is not a folder")


def launch_all(launcher: Launcher, choices: Sequence[ModelChoice], compiled: Compiled) -> list[Launch]:
    """Return the first version of each model. Raises ConfigError."""
    launches: list[Launch] = []
    for choice, each in zip(choices, compiled.models, strict=True):
        launches.append(launcher.launch(choice, each, len(choices), launches))
    return launches


def core_settings(config: ServeConfig, launcher: Launcher) -> FrontendSettings:
    """Return the settings for serving models that no port or protocol adds to; the models are still to come."""
    return FrontendSettings(
        name="",
        host="",
        port=0,
        version=version("bertstream"),
        models=(),
        limits=Limits(**{each.name: getattr(config, each.name) for each in dataclasses.fields(Limits)}),
        tokenizer_threads=launcher.tokenizer_threads,
        drain_seconds=config.drain_seconds,
        drain_notice_seconds=config.drain_notice_seconds,
        worker_wait_seconds=config.worker_wait_seconds,
        log_level=config.log_level,
        frontends=launcher.frontends,
        queue_seconds=config.queue_seconds,
    )


class Host:
    """The workers of models, from `run` to `stop`, for this process alone to send work to."""

    def __init__(self, config: ServeConfig, on_ready: Callable[[FrontendSettings], None], cores: int = 0) -> None:
        """Take the options, of which those of ports have no effect, and what is told how to reach the workers.

        cores: how many to fill; 0: all that this process may use.
        """
        self._cores = cores
        self._config = dataclasses.replace(config, frontends=1, admin_port=-1)
        self._on_ready = on_ready
        self._running: asyncio.Task[None] | None = None
        self._supervisor: Supervisor | None = None

    async def run(self) -> None:
        """Compile what must be compiled, start the workers, and keep them until told to stop.

        Leaves the signals of the process alone. Raises ConfigError, ChildFailed, ProcessorError, DescriptionError,
        TrustError and OSError, whose messages are for people.
        """
        choices = chosen_models(self._config)
        self._running = asyncio.create_task(self._run(choices))
        try:
            await asyncio.shield(self._running)
        except asyncio.CancelledError:
            if not self._running.cancelled():
                self.stop()
                await asyncio.wait((self._running,))
                raise

    def stop(self) -> None:
        """End the workers, within the seconds of a drain; when called again, at once."""
        if self._supervisor is not None:
            self._supervisor.stop()
        elif self._running is not None:
            self._running.cancel()

    async def _run(self, choices: tuple[ModelChoice, ...]) -> None:
        with private_folder(WORKERS_NAME) as folder:
            compiled = await run_compiler(compile_task(self._config, choices), _log_step)
            launcher = Launcher(self._config, folder, compiled.devices, self._cores)
            launches = launch_all(launcher, choices, compiled)
            settings = dataclasses.replace(
                core_settings(self._config, launcher), models=tuple(each.settings for each in launches)
            )
            groups = [Group(each.specs(self._config)) for each in launches]
            self._supervisor = Supervisor(
                [groups], self._config.drain_seconds, lambda: self._on_ready(settings), signals=()
            )
            await self._supervisor.run()


def _log_step(at: CompileStep) -> None:
    log.debug("compiling", extra={"model": at.source, "step": at.step})
