"""`bertstream serve` and `bertstream compile`, with the server installed, in part, or not at all."""

from __future__ import annotations

import re
import sys
import tomllib
import types
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from bertstream.cli import main
from bertstream.cli._server import COMMANDS, FIRST_PYTHON_WITHOUT_TORCHSCRIPT, REQUIRED
from tests.support.imports import ROOT

Fails = Callable[..., tuple[int, str]]
FOR_FEW_CHECKPOINTS = {"transformers", "sentencepiece"}
MODULES = {f"grpcio-{name}": f"grpc_{name.partition('-')[0]}" for name in ("channelz", "health-checking", "reflection")}


class Blocked:
    """An importer that hides the modules of these packages."""

    def __init__(self, packages: Collection[str]) -> None:
        self._packages = packages

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        if name.partition(".")[0] in self._packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def block(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def blocked(*packages: str) -> None:
        monkeypatch.setattr(sys, "meta_path", [Blocked(packages), *sys.meta_path])
        for package in packages:
            monkeypatch.delitem(sys.modules, package, raising=False)

    return blocked


def in_place_of_the_server(monkeypatch: pytest.MonkeyPatch, **functions: Callable[[list[str]], int]) -> None:
    for name in ("bertstream.server.cli", "bertstream.ray.serve.command"):
        module = types.ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)


def test_they_go_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []

    def record(name: str, code: int) -> Callable[[list[str]], int]:
        def run(argv: list[str]) -> int:
            seen.append((name, argv))
            return code

        return run

    in_place_of_the_server(monkeypatch, serve_main=record("serve", 7), compile_main=record("compile", 0))
    assert main(["serve", "m", "--port", "1", "--help"]) == 7
    assert main(["compile", "m"]) == 0
    assert seen == [("serve", ["m", "--port", "1", "--help"]), ("compile", ["m"])]


def test_all_that_the_extra_brings_is_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[<>=,]", each)[0] for each in project["optional-dependencies"]["server"]}
    modules = {MODULES.get(name, name.replace("-", "_")) for name in names}
    assert modules - FOR_FEW_CHECKPOINTS == set(REQUIRED)


@pytest.mark.parametrize("module", REQUIRED)
@pytest.mark.parametrize("name", ["serve", "compile"])
def test_a_module_that_is_missing_is_named(name: str, module: str, block: Callable[..., None], fails: Fails) -> None:
    block(module)
    wanted = f"`bertstream {name}` needs the server, but there is no {module}: pip install 'bertstream[server]'"
    assert fails(name, "m") == (2, f"bertstream: error: {wanted}\n")


def test_without_the_server(block: Callable[..., None], fails: Fails) -> None:
    block(*REQUIRED)
    code, error = fails("serve")
    assert (code, "the server is not installed: pip install 'bertstream[server]'" in error) == (2, True)


@pytest.mark.parametrize("bug", [ModuleNotFoundError("No module named 'bertstream.server.nonsense'"), ImportError("x")])
def test_a_bug_of_the_server_is_not_told_as_a_server_that_is_missing(
    bug: ImportError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve_main(argv: list[str]) -> int:
        raise bug

    in_place_of_the_server(monkeypatch, serve_main=serve_main)
    with pytest.raises(ImportError) as raised:
        main(["serve"])
    assert raised.value is bug


def test_nor_is_one_of_a_module_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("bertstream.server.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bertstream.server.supervisor.sources", None)
    with pytest.raises(ImportError, match=r"bertstream\.server\.supervisor\.sources"):
        main(["serve"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_python_without_torchscript_is_refused(name: str, monkeypatch: pytest.MonkeyPatch, fails: Fails) -> None:
    in_place_of_the_server(monkeypatch, **{f"{name}_main": lambda argv: 0})
    monkeypatch.setattr("bertstream.cli._server.PYTHON", (3, 14))
    code, error = fails(name)
    assert code == 2
    assert f"`bertstream {name}` needs Python 3.11 to 3.13, since torch does not support TorchScript" in error
    assert "this is 3.14: install 'bertstream[server]' in an environment of such a Python" in error
    monkeypatch.setattr("bertstream.cli._server.PYTHON", (3, 13))
    assert main([name]) == 0


def test_the_client_has_no_newest_python_and_torch_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert SpecifierSet(project["requires-python"]).contains("3.99")
    (torch,) = [each for each in map(Requirement, project["optional-dependencies"]["server"]) if each.name == "torch"]
    assert torch.marker is not None
    major, minor = FIRST_PYTHON_WITHOUT_TORCHSCRIPT
    admitted = [torch.marker.evaluate({"python_version": f"{major}.{each}"}) for each in (minor - 1, minor, minor + 1)]
    assert admitted == [True, False, False]
