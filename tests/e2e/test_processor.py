"""`bertstream serve` on a better processor that is kept to fewer instructions, as on one that has no more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bertstream.client import Client
from bertstream.workers import native
from bertstream.workers.native import processor
from tests.support.server import running

TEXTS = ["a few words", "and a few more words than that, of another text"]
HAS_AVX2 = processor.is_x86() and "avx2" in processor.flags() and native.status()[0]


def served(checkpoint: Path, cache: Path, **environment: str) -> tuple[np.ndarray, str, str]:
    """Return the vectors that a server answers, what it says of its model, and its ready line."""
    models = [f"tiny={checkpoint}"]
    with (
        running(models, "--workers", "1", cache=cache, environment=environment) as server,
        Client(server.address) as client,
    ):
        return np.asarray(client.encode(TEXTS)), client.model().cpu_instructions, server.ready_line


@pytest.mark.skipif(not HAS_AVX2, reason="there are no operators for AVX2")
def test_a_forced_processor_has_the_same_numbers(
    checkpoint: Callable[[str], Path], new_cache: Callable[[Path], Path], tmp_path: Path
) -> None:
    cache = new_cache(tmp_path / "cache")
    vectors, instructions, line = served(checkpoint("bert"), cache, BERTSTREAM_CPU="avx2")
    assert instructions == "avx2"
    assert line.rstrip().endswith("| native operators: avx2")
    (folder,) = (cache / "models").iterdir()
    native.provide(cache)
    best, instructions, line = served(checkpoint("bert"), cache)
    assert instructions == native.instructions()
    assert line.rstrip().endswith(f"| native operators: {instructions}")
    np.testing.assert_allclose(vectors, best, rtol=0, atol=1e-6)
    has_amx = instructions.endswith("amx")  # whose layout of weights is another
    assert len([*(cache / "models").iterdir()]) == 1 + has_amx
    assert folder.is_dir()


@pytest.mark.parametrize("command", ["serve", "compile"])
def test_instructions_that_there_are_not(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bertstream.cli", command, "nowhere", *(["--port", "0"] if command == "serve" else [])],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "BERTSTREAM_CPU": "sse9", "BERTSTREAM_CACHE": str(tmp_path)},
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "BERTSTREAM_CPU=sse9 is not one of none, avx2, avx512, vnni, bf16, amx" in line
