"""How the supervisor loads and unloads models, with fakes in place of its child processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from bertstream.server.config import ServeConfig
from bertstream.server.messages import ChangeOutcome, LoadModel, UnloadModel
from bertstream.server.settings import ModelSettings
from bertstream.server.supervisor import loading
from bertstream.server.supervisor.frontends import Frontends, FrontendsFailed
from bertstream.server.supervisor.launching import Launcher
from bertstream.server.supervisor.loading import MAX_REQUESTS, Loader
from bertstream.server.supervisor.sources import choose
from bertstream.workers.compile.compiling import Compiled, CompiledModel, CompileTask
from bertstream.workers.process.child import ChildFailed
from bertstream.workers.process.group import Group
from bertstream.workers.process.supervisor import Supervisor
from bertstream.workers.trust.seal import seal
from tests.server.protocols.bertstream_v1.validation.support import description
from tests.support.waiting import until

DONE = ChangeOutcome()


class Processes:
    """A loader with a fake supervisor and fake frontends, which record what they are told and do as the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []
        self.serving: list[str] = []
        self.compile_error: Exception | None = None
        self.refuse: Callable[[Sequence[ModelSettings]], str] = lambda models: ""
        self.worker_error = ""
        self.may_compile, self.may_drain = asyncio.Event(), asyncio.Event()
        self.may_compile.set()
        self.may_drain.set()
        config = ServeConfig(model_roots=(str(folder / "root"),), workers=1, drain_seconds=10.0)
        launcher = Launcher(config, folder, 0)
        launch = launcher.launch(choose(config, "first", "/first"), self.compiled("first"), 1, [])
        self.loader = Loader(config, launcher, [launch])
        self.loader.attach(cast(Supervisor, self), cast(Frontends, self))

    def compiled(self, source: str) -> CompiledModel:
        directory = self.folder / "compiled" / source
        directory.mkdir(parents=True, exist_ok=True)
        description(revision=source).save(directory)
        seal(directory)
        return CompiledModel(str(directory), "cpu", "float32")

    async def compile(self, task: CompileTask, on_step: object, *, may_use_hub: bool) -> Compiled:
        assert not may_use_hub  # as it is not configured
        await self.may_compile.wait()
        if self.compile_error:
            raise self.compile_error
        self.told.append(f"compile {task.models[0].name}")
        return Compiled((self.compiled(Path(task.models[0].source).name),), 0, "native")

    async def add(self, stage: int, group: Group) -> None:
        self.told.append(f"add {group.specs[0].name}")
        if self.worker_error:
            raise ChildFailed(self.worker_error)

    async def remove(self, group: Group) -> None:
        self.told.append(f"remove {group.specs[0].name}")

    async def serve(self, models: Sequence[ModelSettings]) -> None:
        if refusal := self.refuse(models):
            raise FrontendsFailed(refusal)
        self.serving = [f"{each.name}@{Path(each.directory).name}" for each in models]

    async def drained(self, serials: Sequence[int]) -> None:
        await self.may_drain.wait()

    async def load(self, name: str, source: str, **options: Any) -> ChangeOutcome:
        (self.folder / "root" / source).mkdir(parents=True, exist_ok=True)
        return await self.loader.answer(LoadModel(name, source, **options))

    async def unload(self, name: str) -> ChangeOutcome:
        return await self.loader.answer(UnloadModel(name))

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.loader.settings]


def refused(outcome: ChangeOutcome) -> tuple[str, str]:
    assert outcome.refusal is not None
    return outcome.refusal.kind, outcome.refusal.message


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processes:
    made = Processes(tmp_path)
    monkeypatch.setattr(loading, "run_compiler", made.compile)
    return made


async def test_a_model_is_started_before_it_is_served(processes: Processes) -> None:
    assert await processes.load("second", "b") == DONE
    assert processes.told == ["compile second", "add worker-1-0"]
    assert processes.serving == ["first@first", "second@b"]
    assert processes.names == ["first", "second"]


async def test_a_version_goes_once_it_is_drained(processes: Processes) -> None:
    processes.may_drain.clear()
    await processes.load("second", "b")
    assert await processes.load("first", "c") == DONE
    assert processes.serving == ["first@c", "second@b"]
    assert "remove worker-0-0" not in processes.told
    processes.may_drain.set()
    await until(lambda: "remove worker-0-0" in processes.told)


async def test_what_is_served_already_is_not_loaded_again(processes: Processes) -> None:
    await processes.load("second", "b")
    assert await processes.load("second", "b") == DONE
    assert processes.told == ["compile second", "add worker-1-0", "compile second"]
    assert await processes.load("second", "b", workers=2) == DONE
    assert processes.told[4:] == ["add worker-3-0", "remove worker-1-0"]


async def test_a_checkpoint_that_does_not_compile(processes: Processes) -> None:
    path = processes.folder / "root" / "b"
    processes.compile_error = ChildFailed(f"{path}: there is no weight\nand more", "read")
    outcome = await processes.load("second", "b")
    assert refused(outcome) == ("not_loadable", "b: there is no weight")
    assert processes.told == []
    assert processes.names == ["first"]


async def test_workers_that_do_not_start(processes: Processes) -> None:
    processes.worker_error = "worker-1-0: out of memory"
    left = processes.folder / "1-0.running.0"
    left.touch()
    outcome = await processes.load("second", "b")
    assert refused(outcome) == ("not_loadable", "worker-1-0: out of memory")
    assert processes.names == ["first"]
    assert not left.exists()


async def test_frontends_that_cannot_serve_it_get_back_what_they_had(processes: Processes) -> None:
    processes.refuse = lambda models: "no such tokenizer" if len(models) == 2 else ""
    outcome = await processes.load("second", "b")
    assert refused(outcome) == ("not_loadable", "no such tokenizer")
    assert processes.serving == ["first@first"]
    assert processes.names == ["first"]
    assert processes.told[-1] == "remove worker-1-0"


async def test_a_checkpoint_that_is_not_there(processes: Processes) -> None:
    assert refused(await processes.loader.answer(LoadModel("x", "none")))[0] == "checkpoint_not_found"
    assert processes.told == []


async def test_unloading(processes: Processes) -> None:
    assert refused(await processes.unload("none")) == ("model_not_found", "first")
    assert refused(await processes.unload("first"))[0] == "last_model"
    await processes.load("second", "b")
    assert await processes.unload("first") == DONE
    assert processes.serving == ["second@b"]
    await until(lambda: "remove worker-0-0" in processes.told)


async def test_loads_come_one_after_another_and_not_too_many_wait(processes: Processes) -> None:
    processes.may_compile.clear()
    loads = [asyncio.create_task(processes.load("second", f"b{number}")) for number in range(MAX_REQUESTS)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert refused(await processes.load("second", "c"))[0] == "busy"
    processes.may_compile.set()
    assert await asyncio.gather(*loads) == [DONE] * MAX_REQUESTS
    assert processes.serving == ["first@first", f"second@b{MAX_REQUESTS - 1}"]


async def test_a_load_goes_on_when_nobody_waits_for_it(processes: Processes) -> None:
    processes.may_compile.clear()
    asking = asyncio.create_task(processes.load("second", "b"))
    await asyncio.sleep(0.01)
    asking.cancel()
    processes.may_compile.set()
    await until(lambda: processes.names == ["first", "second"])


async def test_a_server_that_stops_breaks_off_loads(processes: Processes) -> None:
    processes.may_compile.clear()
    asking = asyncio.create_task(processes.load("second", "b"))
    await asyncio.sleep(0.01)
    await processes.loader.close()
    assert refused(await asking)[0] == "draining"
    assert refused(await processes.load("third", "b"))[0] == "draining"
    assert processes.names == ["first"]
