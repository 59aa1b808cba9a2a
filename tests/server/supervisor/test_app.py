from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from bertstream.server import cli
from bertstream.server.config import ConfigError, ModelTable, ServeConfig
from bertstream.server.settings import FrontendSettings
from bertstream.server.supervisor import app, compilation, hosting
from bertstream.server.supervisor.compilation import compile_models
from bertstream.server.supervisor.draining import DrainLog
from bertstream.server.supervisor.launching import FRONTEND_MALLOC, Launch, Launcher
from bertstream.server.supervisor.loading import Loader
from bertstream.server.supervisor.progress import ProgressDisplay
from bertstream.server.supervisor.sources import ModelChoice, chosen_models
from bertstream.workers.compile.compiling import Compiled, CompiledModel, CompileStep
from bertstream.workers.native import processor
from bertstream.workers.process import logs
from bertstream.workers.process.child import ChildFailed, ChildSpec
from bertstream.workers.programs.description import PrecisionTest
from bertstream.workers.trust.seal import seal
from tests.server.protocols.bertstream_v1.validation.support import description


def test_a_model_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"model_roots: there is no directory {tmp_path}/none"):
        app.serve(ServeConfig(model_roots=(str(tmp_path), f"{tmp_path}/none")))


@pytest.mark.parametrize("below", ["", "/cache", "/a/b"])
def test_a_cache_that_is_no_folder(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"^cache: {tmp_path}/file is not a folder$"):
        hosting.compile_task(ServeConfig(cache=f"{tmp_path}/file{below}"), ())
    hosting.compile_task(ServeConfig(cache=f"{tmp_path}/new{below}"), ())


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def launched(config: ServeConfig, folder: Path, device: str = "cpu") -> tuple[Launcher, list[Launch]]:
    """Launch all models of a configuration, as if they had been compiled."""
    choices = chosen_models(config)
    directories = [folder / f"compiled-{index}" for index in range(len(choices))]
    for directory, choice in zip(directories, choices, strict=True):
        directory.mkdir(parents=True)
        test = PrecisionTest(0.16, 0.9899579847522344)
        description(device=device, revision=choice.name, precision_test=test).save(directory)
        seal(directory)
    models = tuple(
        CompiledModel(str(directory), device, choice.dtype if choice.dtype != "auto" else "float32")
        for directory, choice in zip(directories, choices, strict=True)
    )
    launcher = Launcher(config, folder, 2)
    return launcher, hosting.launch_all(launcher, choices, Compiled(models, 2, "no compiler"))


def computing(launch: Launch, instructions: str = "avx2", *, native: bool = True) -> Launch:
    """Return the launch as if it used native operators, or none, with these instructions."""
    return dataclasses.replace(
        launch,
        compiled=dataclasses.replace(launch.compiled, cpu_instructions=instructions),
        description=msgspec.structs.replace(launch.description, native_operators=native),
    )


def told_to(spec: ChildSpec) -> FrontendSettings:
    """Return the settings that a frontend gets when it starts."""
    told = spec.settings(0)
    assert isinstance(told, FrontendSettings)
    return told


async def test_each_life_of_a_frontend_begins_with_what_is_served_then(tmp_path: Path) -> None:
    config = ServeConfig(
        ("a=/a", "b=/b"), frontends=2, workers=2, max_texts=7, host="::1", drain_seconds=0.5, load_from_hub=True
    )
    launcher, launches = launched(config, tmp_path)
    loader = Loader(config, launcher, launches)
    spec, other = app.frontend_specs(config, app.Ports(50051), launcher, loader, DrainLog(2, 0.5))
    assert (spec.module, spec.name) == ("bertstream.server.frontend.process", "frontend-0")
    settings = told_to(spec)
    assert (settings.host, settings.port, settings.drain_seconds) == ("::1", 50051, 0.5)
    assert (settings.limits.max_texts, settings.tokenizer_threads, settings.max_load_workers) == (7, 4, 8)
    assert settings.models == tuple(each.settings for each in launches)
    del loader.served[0]
    for each in (spec, other):
        assert [model.name for model in told_to(each).models] == ["b"]


@pytest.mark.parametrize(("given", "threads", "expected"), [(1, 0, [8]), (3, 0, [3] * 3), (4, 2, [1] * 4)])
async def test_frontends_differ_in_name_and_number_only(
    given: int, threads: int, expected: list[int], tmp_path: Path
) -> None:
    config = ServeConfig(("a=/a",), frontends=given, tokenizer_threads=threads)
    launcher, launches = launched(config, tmp_path)
    loader = Loader(config, launcher, launches)
    specs = app.frontend_specs(config, app.Ports(50051), launcher, loader, DrainLog(given, 30.0))
    told = [told_to(spec) for spec in specs]
    assert [each.tokenizer_threads for each in told] == expected
    assert all(spec.environment.items() >= FRONTEND_MALLOC.items() for spec in specs)
    assert [spec.name for spec in specs] == [each.name for each in told] == [f"frontend-{n}" for n in range(given)]
    assert [(each.number, each.frontends) for each in told] == [(number, given) for number in range(given)]
    assert len({dataclasses.replace(each, name="", number=0) for each in told}) == 1


def test_the_line_when_ready(tmp_path: Path) -> None:
    config = ServeConfig(("a=/a",), workers=2)
    line = app.ready_line(config, app.Ports(50051), launched(config, tmp_path)[1], "no compiler")
    assert "ready on 127.0.0.1:50051 | a (bert, 5 layers, 36 wide) | cpu float32" in line
    assert line.endswith("2 workers of 4 threads | no native operators: no compiler")
    line = app.ready_line(config, app.Ports(50051), launched(config, tmp_path / "again")[1], "no compiler", 3)
    assert line.endswith("2 workers of 4 threads | 3 frontends | no native operators: no compiler")
    assert "\n" not in line


def test_the_line_says_of_each_model_how_it_is_served_where_they_differ(tmp_path: Path) -> None:
    tables = {"b": ModelTable(workers=1), "a": ModelTable(device="cuda:1")}
    config = ServeConfig(("a=/a", "b=/b"), workers=2, tables=tables)
    line = app.ready_line(config, app.Ports(1), launched(config, tmp_path, "cuda")[1], "none on CUDA")
    assert "a (bert, 5 layers, 36 wide, cuda:1 float32, 2 workers)" in line
    assert "b (bert, 5 layers, 36 wide, cuda float32, 1 worker) | no native operators: none on CUDA" in line


@pytest.mark.parametrize(
    ("dtype", "why"),
    [("float16", "there are none for float16 on the CPU"), ("float32", "compiled without them")],
)
def test_the_line_never_gives_the_operators_as_the_reason_that_there_are_none(
    dtype: str, why: str, tmp_path: Path
) -> None:
    config = ServeConfig(("a=/a",), workers=1, dtype=dtype)
    line = app.ready_line(config, app.Ports(1), launched(config, tmp_path)[1], "native")
    assert line.endswith(f" | no native operators: {why}")


def test_the_line_says_which_instructions_are_used(tmp_path: Path) -> None:
    config = ServeConfig(("a=/a",), workers=1)
    _, (launch,) = launched(config, tmp_path)
    launch = computing(launch, "avx512+vnni")
    assert app.ready_line(config, app.Ports(1), [launch], "native").endswith(" | native operators: avx512+vnni")
    assert launch.settings.cpu_instructions == "avx512+vnni"
    assert app.ready_line(config, app.Ports(1), [computing(launch, "")], "native").endswith(" | native operators")


def test_processes_are_kept_to_the_same_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "environment", lambda: {"ATEN_CPU_CAPABILITY": "avx2"})
    config = ServeConfig(("a=/a",), workers=1)
    _, (launch,) = launched(config, tmp_path)
    (spec,) = launch.specs(config)
    assert spec.environment["ATEN_CPU_CAPABILITY"] == "avx2"


TOLD = "least cosine of a token's state to float32 0.98996 on made-up texts"


def test_the_line_says_what_less_precision_costs(tmp_path: Path) -> None:
    all_of_them = ServeConfig(("a=/a",), workers=1, dtype="int8")
    line = app.ready_line(
        all_of_them, app.Ports(1), [computing(each) for each in launched(all_of_them, tmp_path)[1]], "native"
    )
    assert f"a (bert, 5 layers, 36 wide, {TOLD}) | cpu int8 | 1 worker of 8 threads |" in line
    one = ServeConfig(("a=/a", "b=/b"), workers=1, tables={"b": ModelTable(dtype="int8")})
    line = app.ready_line(
        one, app.Ports(1), [computing(each) for each in launched(one, tmp_path / "again")[1]], "native"
    )
    assert "a (bert, 5 layers, 36 wide, cpu float32, 1 worker of 4 threads), b (" in line
    assert f"b (bert, 5 layers, 36 wide, cpu int8, 1 worker of 4 threads, {TOLD}) |" in line


@pytest.mark.parametrize(
    ("dtype", "native", "instructions", "told"),
    [
        ("int8", False, "", ", slower here than float32, without native operators)"),
        ("int8", True, "portable", ", slower here than float32, without vectors of bytes)"),
        ("int8", True, "avx2", " on made-up texts)"),
        ("int8", True, "portable+dotprod", " on made-up texts)"),
        ("int8", True, "avx512+vnni", " on made-up texts)"),
        ("bfloat16", False, "", " on made-up texts)"),
        ("float32", False, "", " wide)"),
    ],
)
def test_the_line_says_where_int8_is_slower_than_float32(
    dtype: str, native: bool, instructions: str, told: str, tmp_path: Path
) -> None:
    config = ServeConfig(("a=/a",), workers=1, dtype=dtype)
    (launch,) = launched(config, tmp_path)[1]
    here = computing(launch, instructions, native=native)
    assert f"{told} | cpu {dtype} | 1 worker" in app.ready_line(config, app.Ports(1), [here], "native")


def nowhere() -> ModelChoice:
    return ModelChoice("a", "/nowhere/at/all", "cpu", "float32", "auto", 0, 0, 0, 1, 0)


async def test_a_compilation_that_fails_says_why_in_its_own_words() -> None:
    task = hosting.compile_task(ServeConfig(log_level="error"), [nowhere()])
    with ProgressDisplay() as display, pytest.raises(ChildFailed, match="/nowhere/at/all") as raised:
        await compile_models(task, display)
    assert raised.value.step == "find"


async def test_what_is_compiled_is_not_there_for_all_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look when the process asks for its settings, and is sure to be there."""

    class Watched(ChildSpec):
        def __init__(self, name: str, module: str, settings: Callable[[int], object], *rest: Any, **more: Any) -> None:
            def looked(life: int) -> object:
                found.extend(commands())
                return settings(life)

            super().__init__(name, module, looked, *rest, **more)

    found: list[list[str]] = []
    monkeypatch.setattr(compilation, "ChildSpec", Watched)
    with ProgressDisplay() as display, pytest.raises(ChildFailed):
        await compile_models(hosting.compile_task(ServeConfig(log_level="error"), [nowhere()]), display)
    compiling = [arguments for arguments in found if "bertstream.workers.compile.compiling" in arguments]
    assert compiling
    assert all(arguments[4] == "compile" and arguments[5].isdigit() and len(arguments) == 6 for arguments in compiling)


def commands() -> Iterator[list[str]]:
    """Yield the command lines of this process's children, as far as these have not ended."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            yield child.cmdline()


async def test_a_compilation_can_be_stopped() -> None:
    class Impatient(ProgressDisplay):
        def update(self, at: CompileStep) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with Impatient() as display:
        try:
            assert (
                await compile_models(hosting.compile_task(ServeConfig(log_level="error"), [nowhere()]), display) is None
            )
        except ChildFailed:
            pytest.skip("it failed before it said anything")


def test_errors_for_people_and_for_programs(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert app.fail(ConfigError("no such thing")) == 1
    assert [(record.levelname, record.message) for record in caplog.records] == [("ERROR", "no such thing")]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(logs, "structured", lambda: False)
    assert app.fail(ConfigError("no such thing")) == 1
    assert capsys.readouterr().err == "bertstream: error: no such thing\n"


def test_progress_is_a_line_of_the_log_for_each_step(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # some CI sets it, and has no terminal
    caplog.set_level("INFO")
    with ProgressDisplay() as display:
        for done in range(3):
            display.update(CompileStep("mine", "save", done, 3))
        display.update(CompileStep("mine", "test", 0, 1))
    assert [record.message for record in caplog.records] == ["mine: save", "mine: test"]
    assert vars(caplog.records[0])["model"] == "mine"


def test_progress_on_a_terminal_is_a_bar(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "structured", lambda: False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes what captures it for a terminal
    caplog.set_level("INFO")
    with ProgressDisplay() as display:
        display.update(CompileStep("mine", "save", 1, 3))
    assert not caplog.records
    assert "mine: save" in capsys.readouterr().err


@pytest.mark.parametrize("main", [cli.serve_main, cli.compile_main])
def test_wrong_usage_is_one_line_too(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised, kept_logging():
        main(["--dtype", "int3"])
    assert raised.value.code == 2
    (record,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert "invalid choice: 'int3'" in record["message"]
    assert record["message"].endswith("--help`)")


@contextmanager
def kept_logging() -> Iterator[None]:
    """Undo afterwards what the body does to logging."""
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.excepthook = hook
