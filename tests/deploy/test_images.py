"""The Dockerfile: what it copies is there, its lint is clean, and its images run as the server wants it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

import pytest

from bertstream.server.config import FIELDS
from deploy import wheel

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
IMAGES = ("cpu", "cuda")


def stages() -> Mapping[str, list[list[str]]]:
    """Return the instructions of each stage, with those of the stages that it is from before its own."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    found: dict[str, list[list[str]]] = {}
    current: list[list[str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction = line.split()
        if instruction[0] == "FROM":
            current = found[instruction[3]] = list(found.get(instruction[1], ()))
        else:
            current.append(instruction)
    return found


STAGES = stages()


def of(image: str, *names: str) -> Iterator[list[str]]:
    return (each for each in STAGES[image] if each[0] in names)


def test_its_lint_is_clean() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def is_sent(path: str) -> bool:
    """Tell whether the builder gets a file of the repository: the last rule that fits decides."""
    rules = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    sent = True
    for rule in (each for each in rules if each and not each.startswith("#")):
        pattern = rule.removeprefix("!").removeprefix("**/")
        if fnmatch(path, pattern) or path.startswith(f"{pattern}/") or fnmatch(Path(path).name, pattern):
            sent = rule.startswith("!")
    return sent


def test_what_it_copies_is_there_and_sent() -> None:
    needed = {
        Path(wheel.__file__).relative_to(ROOT),
        *(Path(name) for name in ("pyproject.toml", "LICENSE", "README.md")),
    }
    needed |= {Path(each[1]) for image in STAGES for each in of(image, "COPY") if not each[1].startswith("--")}
    needed |= {next((ROOT / each).rglob("*.py")).relative_to(ROOT) for each in wheel.PORTIONS}
    for path in needed - {Path()}:
        assert (ROOT / path).exists()
        assert is_sent(str(path))


@pytest.mark.parametrize(
    "path", ["tests/conftest.py", ".git/config", ".venv/bin/python", "deploy/lock.py", "workers/a/b.so"]
)
def test_nothing_else_is_sent(path: str) -> None:
    assert not is_sent(path)


@pytest.mark.parametrize("stage", [f"build-{image}" for image in IMAGES])
def test_the_wheel_is_built_where_bertstream_is_not_installed(stage: str) -> None:
    (built,) = (each for each in of(stage, "RUN") if "deploy.wheel" in each)
    assert "__pycache__" not in built  # the user of an image cannot write it again
    *variables, python, _, _, output, _ = built[1 : built.index("&&")]
    assert (python, output) == ("/opt/bertstream/bin/python", "--output")
    given = dict(each.split("=", 1) for each in variables)
    # Packages are found without .pth files, and so without what an editable installation adds.
    path = os.pathsep.join([given.pop("PYTHONPATH", ""), sysconfig.get_path("purelib")])
    command = [sys.executable, "-S", "-m", "deploy.wheel", "--help"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": path} | given, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("image", IMAGES)
def test_images_serve_as_a_user_of_their_own(image: str) -> None:
    *_, (_, user) = of(image, "USER")
    assert user == "65532:65532"
    assert STAGES[image][-1][0] == "USER"
    (command,) = of(image, "CMD")
    assert command[1:] == ['["serve"]']
    (health,) = of(image, "HEALTHCHECK")
    assert health[-2:] == ['["bertstream",', '"health"]']
    # Podman and Buildah of Debian 12 know no others, and build nothing where there is one.
    known = {"--interval", "--timeout", "--start-period", "--retries"}
    assert {each.partition("=")[0] for each in health if each.startswith("--")} <= known


@pytest.mark.parametrize("image", IMAGES)
def test_their_environment_is_the_servers(image: str) -> None:
    given = [pair.partition("=")[0] for each in of(image, "ENV") for pair in each[1:]]
    assert "BERTSTREAM_CACHE" in given
    assert {name for name in given if name.startswith("BERTSTREAM_")} <= {
        f"BERTSTREAM_{name.upper()}" for name in FIELDS
    }
