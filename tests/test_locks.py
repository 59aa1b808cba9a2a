"""The locks hold all that pyproject.toml asks for, with hashes, for every Python that the server admits."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from deploy import install, lock
from tests.support.imports import ROOT

LOCKS = sorted((ROOT / "deploy" / "locks").glob("*.txt"))
PYTHONS = ("3.11", "3.12", "3.13")
EXTRAS = {"dev": "dev", "server": "server", "lowest": "test"}


def _environment(python: str, extra: str = "") -> dict[str, str]:
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}
    return {"python_version": python, "python_full_version": f"{python}.0", "extra": extra, **linux}


def _pins(name: str, python: str) -> dict[str, str]:
    """Return the versions of the packages that this Python installs, by name."""
    pins: dict[str, str] = {}
    for each in install.packages((ROOT / "deploy" / "locks" / f"{name}.txt").read_text()):
        marker = each.requirement.partition(";")[2].strip()
        if not marker or Marker(marker).evaluate(_environment(python)):
            assert each.name not in pins
            pins[each.name] = each.version
    return pins


def _asked(extra: str, python: str) -> Iterator[Requirement]:
    """Yield the requirements of an extra of the distribution, including those of the extras that it names."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"].get(extra, ())]
    for requirement in map(Requirement, lines):
        if requirement.marker and not requirement.marker.evaluate(_environment(python)):
            continue
        if requirement.name == "bertstream":
            for other in requirement.extras:
                yield from _asked(other, python)
        else:
            yield requirement


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_is_in_step_with_what_the_distribution_asks_for(name: str, python: str) -> None:
    pins = _pins(name, python)
    asked = list(_asked(EXTRAS[name], python))
    assert asked
    for requirement in asked:
        pinned = pins[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(pinned, prereleases=True), f"{requirement}: {pinned} (run `make lock`)"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lowest_are_the_floors(python: str) -> None:
    pins = _pins("lowest", python)
    for requirement in _asked("server", python):
        floors = [each.version for each in requirement.specifier if each.operator in (">=", "==")]
        pinned = pins[requirement.name.lower()]
        assert all(not Requirement(f"x<{floor}").specifier.contains(pinned) for floor in floors)
        assert any(pinned == floor or pinned.startswith(f"{floor}.") for floor in floors), f"{requirement}: {pinned}"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_has_hashes(path: Path) -> None:
    packages = install.packages(path.read_text())
    rest = path.read_text()
    for each in packages:
        rest = rest.replace(each.text, "")
        assert re.search(r"--hash=sha256:[0-9a-f]{64}$", each.text, re.MULTILINE), each.name
    assert packages
    assert all(line.startswith("#") or not line for line in rest.splitlines())


def test_environments_have_one_version_of_a_package() -> None:
    assert _pins("server", "3.11").items() <= _pins("dev", "3.11").items()


def test_torch_is_known_by_its_builds_for_cpus_too() -> None:
    packages = install.packages((ROOT / "deploy" / "locks" / "dev.txt").read_text())
    (torch,) = [each for each in packages if each.name == "torch"]
    listed = ROOT / "deploy" / "requirements" / f"torch-cpu-{torch.version}.sha256"
    builds = dict(line.split("  ")[::-1] for line in listed.read_text().splitlines())
    tags = {name.split("-")[2] for name in builds}
    assert tags == {"cp311", "cp312", "cp313"}
    assert all(f"--hash=sha256:{digest}" in torch.text for digest in builds.values())


def test_builds_are_read_from_an_index() -> None:
    digest = "ab" * 32
    page = "".join(
        f'<a href="/whl/cpu/{name}#sha256={digest}">x</a>\n'
        for name in (
            "torch-9.1.0%2Bcpu-cp312-cp312-manylinux_2_28_x86_64.whl",
            "torch-9.1.0%2Bcpu-cp310-cp310-manylinux_2_28_x86_64.whl",
            "torch-9.1.0%2Bcpu-cp313-cp313t-manylinux_2_28_x86_64.whl",
            "torch-9.0.0%2Bcpu-cp312-cp312-manylinux_2_28_x86_64.whl",
        )
    )
    assert lock.listed_builds(page, "9.1.0") == {"torch-9.1.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl": digest}


class Pip:
    """Records what pip is asked to install; fails for the texts that it is given."""

    def __init__(self, *failing: str) -> None:
        self.failing, self.wanted = failing, list[str]()

    def __call__(self, *arguments: str, verbose: bool = True) -> None:
        text = Path(arguments[-1]).read_text()
        if any(each in text for each in self.failing):
            raise SystemExit(1)
        self.wanted += [each.name + "==" + each.version for each in install.packages(text)]


LOCK = """\
# a lock
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:00
torch==2.13.0 \\
    --hash=sha256:01 \\
    --hash=sha256:02
nvidia-cublas==13.1 ; sys_platform == 'linux' \\
    --hash=sha256:03
triton==3.7 \\
    --hash=sha256:04
tritonclient==2.73.0 \\
    --hash=sha256:05
"""
CLIENT = "tritonclient==2.73.0"  # which no GPU has to do with


@pytest.mark.parametrize(
    ("requires", "wanted"),
    [
        (["2.13.0+cpu", "filelock"], ["numpy==2.4.6", CLIENT]),
        (
            ["2.13.0", 'triton~=3.7; platform_system == "Linux"'],
            ["numpy==2.4.6", "nvidia-cublas==13.1", "triton==3.7", CLIENT],
        ),
    ],
)
def test_libraries_for_gpus_go_with_the_torch_that_wants_them(
    monkeypatch: pytest.MonkeyPatch, requires: list[str], wanted: list[str]
) -> None:
    pip = Pip()
    monkeypatch.setattr(install, "pip", pip)
    monkeypatch.setattr(install, "installed_torch", lambda: requires)
    assert install.install_lock(install.packages(LOCK), install.install_all)
    assert sorted(pip.wanted) == wanted  # and the torch that is there stays


@pytest.mark.parametrize(("failing", "wanted"), [((), "torch==2.13.0+cpu"), (("+cpu",), "torch==2.13.0")])
def test_the_build_for_cpus_is_taken_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...], wanted: str
) -> None:
    pip = Pip(*failing)
    monkeypatch.setattr(install, "pip", pip)
    monkeypatch.setattr(install, "installed_torch", lambda: ["2.11.0"])
    install.install_lock(install.packages(LOCK), install.install_all)
    assert pip.wanted[0] == wanted


@pytest.mark.parametrize(("options", "compiles"), [([], None), (["--no-compile"], "0")])
def test_bytecode_can_wait_for_the_first_import(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], compiles: str | None
) -> None:
    seen: list[str | None] = []
    (tmp_path / "lock.txt").write_text(LOCK)
    monkeypatch.setattr(sys, "argv", ["install", str(tmp_path / "lock.txt"), *options])
    monkeypatch.setenv("PIP_COMPILE", "")  # and it is taken back, whatever comes
    monkeypatch.delenv("PIP_COMPILE")
    monkeypatch.setattr(install, "pip", lambda *arguments, verbose=True: seen.append(os.environ.get("PIP_COMPILE")))
    monkeypatch.setattr(install, "installed_torch", lambda: ["2.11.0"])
    install.main()
    assert set(seen) == {compiles}


def test_what_cannot_be_installed_is_left_out_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip = Pip("nvidia")
    monkeypatch.setattr(install, "pip", pip)
    assert not install.install_what_can_be(install.packages(LOCK))
    assert sorted(set(pip.wanted)) == ["numpy==2.4.6", "torch==2.13.0", "triton==3.7", CLIENT]
    assert capsys.readouterr().err == "left out: nvidia-cublas\n"
