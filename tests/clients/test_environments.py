"""What `make test-clients` installs is pinned, and nothing that it needs is forgotten."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.clients.environments import NODE, REQUIREMENTS, SCRIPTS

NAMES = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


@pytest.mark.parametrize("name", NAMES)
def test_each_package_has_a_version(name: str) -> None:
    lines = (REQUIREMENTS / f"{name}.txt").read_text("utf-8").splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert packages
    assert [line for line in packages if not re.fullmatch(r"[\w-]+(\[\w+\])?==[\w.]+", line)] == []


def test_each_environment_is_asked_by_a_test() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in NAMES if f'"{name}"' not in tests] == []


def test_each_script_has_an_environment() -> None:
    assert {path.stem.replace("_", "-") for path in SCRIPTS.glob("*.py")} <= set(NAMES)


def test_the_lock_of_node_has_the_versions_that_its_package_names() -> None:
    package, lock = (json.loads((NODE / name).read_text("utf-8")) for name in ("package.json", "package-lock.json"))
    assert [each for each in package["dependencies"].values() if not re.fullmatch(r"\d+\.\d+\.\d+", each)] == []
    for name, version in package["dependencies"].items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert [name for name, each in lock["packages"].items() if name and "integrity" not in each] == []
