"""Help, the version and usage errors are printed without importing what only calls need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bertstream.cli._main import build_parser
from bertstream.cli._server import COMMANDS

HEAVY = ("grpc", "numpy", "google", "bertstream.client", "bertstream.v1", "bertstream.server", "asyncio")


def loaded_by(*arguments: str) -> tuple[int, set[str]]:
    """Return the exit code, and which of HEAVY the process had imported."""
    code = f"""
import sys
from bertstream.cli import main
try:
    code = main({list(arguments)!r})
except SystemExit as stop:
    code = stop.code
print("\\n", *(name for name in {HEAVY!r} if name in sys.modules))
sys.exit(code)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "BERTSTREAM_ADDRESS": "127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, set(done.stdout.splitlines()[-1].split())


def commands() -> list[str]:
    (action,) = (action for action in build_parser()._actions if action.dest == "==SUPPRESS==" or action.choices)
    return [name for name in action.choices or () if name not in COMMANDS]


def test_help_and_version() -> None:
    assert loaded_by("--help") == loaded_by("--version") == (0, set())


@pytest.mark.parametrize("name", commands())
def test_help_of_a_command(name: str) -> None:
    assert loaded_by(name, "--help") == (0, set())


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("encode",),
        ("encode", "a", "--max-length", "x"),
        ("encode", __file__),
        ("encode", "a", "--skip-empty"),
        ("encode-multi", "a", "--skip-empty"),
        ("layers", "a", "--layers", "x"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert loaded_by(*arguments) == (2, set())


def test_a_call_loads_them() -> None:
    code, loaded = loaded_by("health")
    assert code == 3
    assert {"grpc", "numpy", "google", "bertstream.client"} <= loaded
