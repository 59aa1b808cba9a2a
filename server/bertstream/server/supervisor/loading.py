"""Loads, replaces and unloads models while the server runs. Lives in the supervisor's process.

A new version is compiled, its workers are started and the frontends connected to them before anything is taken away: a
failure on the way leaves everything as it was. The version that it replaces ends when its calls are done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.messages import ChangeOutcome, ForSupervisor, LoadModel, Refusal, RefusalKind
from bertstream.server.settings import ModelSettings
from bertstream.server.supervisor import roots
from bertstream.server.supervisor.compilation import run_compiler
from bertstream.server.supervisor.frontends import Frontends, FrontendsFailed
from bertstream.server.supervisor.launching import NO_WATCH, Launch, Launcher, Watch
from bertstream.server.supervisor.sources import ModelChoice, choose
from bertstream.workers.compile.compiling import CompiledModel, CompileTask
from bertstream.workers.process.child import ChildFailed
from bertstream.workers.process.group import Group
from bertstream.workers.process.supervisor import Supervisor
from bertstream.workers.programs.description import DescriptionError

log = logging.getLogger(__name__)

WORKERS, FRONTENDS = 0, 1  # the supervisor's stages
MAX_REQUESTS = 16  # loads and unloads, under way or waiting for their turn
_GRACE_SECONDS = 5.0  # beyond the frontends' own limit


class Refused(Exception):
    """A model cannot be loaded or unloaded; a frontend maps `kind` to a status."""

    def __init__(self, kind: RefusalKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Served:
    """One version of a model, and its workers."""

    launch: Launch
    workers: Group


class Loader:
    """The models that are served, and all changes of them, one at a time."""

    def __init__(
        self, config: ServeConfig, launcher: Launcher, launches: Sequence[Launch], watch: Watch = NO_WATCH
    ) -> None:
        """Take the first versions, and what is told of all workers."""
        self._config = config
        self._launcher = launcher
        self._watch = watch
        self.served = [self._with_workers(launch) for launch in launches]
        self._ending: list[Served] = []
        self._compiling = asyncio.Lock()
        self._changing = asyncio.Lock()
        self._requests: set[asyncio.Task[None]] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._closed = False

    def attach(self, supervisor: Supervisor, frontends: Frontends) -> None:
        """Take the supervisor and the frontends; to be called before the first request."""
        self._supervisor, self._frontends = supervisor, frontends

    @property
    def settings(self) -> tuple[ModelSettings, ...]:
        """The models that a frontend that starts now serves."""
        return _settings(self.served)

    @property
    def running(self) -> tuple[Served, ...]:
        """All versions that have workers: those that are served, and those that end."""
        return (*self.served, *self._ending)

    async def answer(self, asked: ForSupervisor) -> ChangeOutcome:
        """Load or unload as a frontend asks; the work goes on even if nobody waits for the answer."""
        if self._closed:
            return _refusal("draining")
        if len(self._requests) >= MAX_REQUESTS:
            return _refusal("busy", f"{MAX_REQUESTS} models are being loaded or unloaded already")
        work = self._load(asked) if isinstance(asked, LoadModel) else self._unload(asked.name)
        task = _spawn(work, self._requests)
        await asyncio.wait((task,))
        return _refusal("draining") if task.cancelled() else _outcome(task.exception())

    async def close(self) -> None:
        """Cancel all loads and unloads; the supervisor ends the child processes."""
        self._closed = True
        tasks = [*self._requests, *self._retiring]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _with_workers(self, launch: Launch) -> Served:
        return Served(launch, Group(launch.specs(self._config, self._watch)))

    async def _load(self, asked: LoadModel) -> None:
        choice = self._choose(asked)
        async with self._compiling:
            compiled = await self._compile(choice, asked.source)
        async with self._changing:
            await self._bring_in(choice, compiled)

    async def _unload(self, name: str) -> None:
        async with self._changing:
            rest = [each for each in self.served if each.launch.name != name]
            if len(rest) == len(self.served):
                names = ", ".join(each.launch.name for each in rest)
                raise Refused("model_not_found", names)
            if not rest:
                raise Refused("last_model", f"{name!r} is the only model")
            await self._switch(rest)
            log.info("%s is unloaded", name)

    def _choose(self, asked: LoadModel) -> ModelChoice:
        """Return the requested checkpoint: the first below the roots, else the hub's. Raises Refused."""
        config, source = self._config, asked.source
        path = roots.find(config.model_roots, source)
        if path is None and not config.load_from_hub:
            raise Refused("checkpoint_not_found", f"there is no checkpoint {source!r} below the model roots")
        return choose(
            config,
            asked.name,
            str(path or source),
            hub=path is None,
            dtype=asked.dtype,
            workers=asked.workers,
            allow_unsupported_modules=asked.allow_unsupported_modules,
        )

    async def _compile(self, choice: ModelChoice, source: str) -> CompiledModel:
        task = CompileTask((choice.to_compile,), self._config.cache, self._config.log_level)
        try:
            compiled = await run_compiler(
                task,
                lambda at: log.debug("compiling", extra={"step": at.step}),
                # A checkpoint of this machine may name another one, whose settings it needs.
                may_use_hub=self._config.load_from_hub,
            )
        except ChildFailed as error:
            missing = choice.hub and error.step == "find"
            # The caller named a source, and must not learn of the folders of this machine.
            message = _first_line(error).replace(choice.source, source)
            raise Refused("checkpoint_not_found" if missing else "not_loadable", message) from error
        return compiled.models[0]

    async def _bring_in(self, choice: ModelChoice, compiled: CompiledModel) -> None:
        """Start the workers of a version, and have the frontends serve it in place of the one before."""
        names = [each.launch.name for each in self.served]
        models = len({*names, choice.name})
        launch = self._launcher.launch(choice, compiled, models, [each.launch for each in self.served])
        new = self._with_workers(launch)
        if choice.name not in names:
            served = [*self.served, new]
        elif self.served[names.index(choice.name)].launch.same_as(launch):
            return
        else:
            served = [new if each.launch.name == choice.name else each for each in self.served]
        log.info("starting %s", choice.name, extra={"workers": launch.workers, "revision": launch.description.revision})
        try:
            await self._supervisor.add(WORKERS, new.workers)
        except ChildFailed:
            launch.remove_files()
            raise
        await self._switch(served)
        log.info("%s is loaded", choice.name, extra={"revision": launch.description.revision})
        if launch.slowness:
            log.warning("%s in int8 is %s", choice.name, launch.slowness)

    async def _switch(self, served: list[Served]) -> None:
        """Have the frontends serve these versions, and retire the others; if they fail, all stays as it was."""
        before = self.served
        try:
            await self._frontends.serve(_settings(served))
        except FrontendsFailed:
            with suppress(FrontendsFailed):
                await self._frontends.serve(_settings(before))
            for each in _without(served, before):
                await self._remove(each)
            raise
        self.served = served
        with suppress(FrontendsFailed):  # again, for a frontend that was replaced meanwhile, with the old list
            await self._frontends.serve(_settings(served))
        for each in _without(before, served):
            self._ending.append(each)
            _spawn(self._retire(each), self._retiring)

    async def _retire(self, old: Served) -> None:
        """End a version's workers once no call needs them, at the latest when the time of a drain is over."""
        with suppress(TimeoutError, FrontendsFailed):
            async with asyncio.timeout(self._config.drain_seconds + _GRACE_SECONDS):
                await self._frontends.drained([old.launch.serial])
        await self._remove(old)
        self._ending.remove(old)
        log.info("an old version of %s is gone", old.launch.name, extra={"revision": old.launch.description.revision})

    async def _remove(self, old: Served) -> None:
        await self._supervisor.remove(old.workers)
        old.launch.remove_files()


def _settings(served: Sequence[Served]) -> tuple[ModelSettings, ...]:
    return tuple(each.launch.settings for each in served)


def _without(some: Sequence[Served], others: Sequence[Served]) -> list[Served]:
    serials = {each.launch.serial for each in others}
    return [each for each in some if each.launch.serial not in serials]


def _spawn(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


def _outcome(error: BaseException | None) -> ChangeOutcome:
    match error:
        case None:
            return ChangeOutcome()
        case Refused():
            return _refusal(error.kind, str(error))
        case ChildFailed() | ConfigError() | DescriptionError() | FrontendsFailed():
            return _refusal("not_loadable", _first_line(error))
        case _:
            raise error


def _refusal(kind: RefusalKind, message: str = "") -> ChangeOutcome:
    return ChangeOutcome(Refusal(kind, message))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
