"""Others' clients, each in an environment of its own: `make test-clients` makes them from the files in `requirements`.

Where one is not there, the tests that need it are skipped. A script in `scripts` asks a server as a user of that client
would, and prints the answers as JSON, which the tests compare with those of our own client.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.imports import ROOT

ENVIRONMENTS = ROOT / ".venv-clients"
REQUIREMENTS = ROOT / "tests" / "clients" / "requirements"
SCRIPTS = ROOT / "tests" / "clients" / "scripts"
NODE = ROOT / "examples" / "node"
SECONDS = 120
OURS = {"PYTHONPATH": os.pathsep.join(str(ROOT / portion) for portion in ("client", "protos"))}  # finds our client


def needs(name: str) -> pytest.MarkDecorator:
    """Return the mark of a test that needs an environment; without it, it is skipped before a server is started."""
    is_there = (ENVIRONMENTS / name / ".installed").exists()
    return pytest.mark.skipif(not is_there, reason=f"{name} is not installed: make test-clients")


def installed(name: str) -> Path:
    """Return an environment's folder of programs, or skip the test where it is not there."""
    if not (ENVIRONMENTS / name / ".installed").exists():
        pytest.skip(f"{name} is not installed: make test-clients")
    return ENVIRONMENTS / name / "bin"


def answers(name: str, *arguments: str) -> Any:
    """Return what an environment's script prints, read as JSON."""
    # -P: else the script `openai.py` would be what it imports by that name
    return json.loads(output([installed(name) / "python", "-P", SCRIPTS / f"{name.replace('-', '_')}.py", *arguments]))


def answers_of_adapter(name: str, *arguments: str) -> Any:
    """Return what the script of our own adapter prints in an environment, read as JSON."""
    script = SCRIPTS / "adapters" / f"{name.replace('-', '_')}.py"
    return json.loads(output([installed(name) / "python", "-P", script, *arguments], environment=OURS))


def output(
    command: Sequence[str | Path], *, stdin: str = "", environment: dict[str, str] | None = None, code: int = 0
) -> str:
    """Return what a command prints, which has to end with this exit code; what else it says goes into a failure."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("BERTSTREAM_")}
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        cwd=ROOT,
        env={**variables, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stderr or done.stdout
    return done.stdout if code == 0 else done.stderr
