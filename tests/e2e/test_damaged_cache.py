"""`bertstream serve` names a damaged model of the cache in one line, compiles it again, and serves it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bertstream.client import Client
from bertstream.workers import native
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.native.library import compiler
from bertstream.workers.trust.seal import Sealed, seal
from tests.support.server import running

Checkpoint = Callable[[str], Path]
TEXT = "a few words"
MARKING = """
#include <cstdio>
__attribute__((constructor)) static void mark() { if (FILE* file = std::fopen(MARKER, "w")) std::fclose(file); }
"""


def vectors(checkpoint: Path, cache: Path) -> tuple[np.ndarray, list[str]]:
    """Return the vectors that a server answers, and its warnings and errors."""
    with running([f"tiny={checkpoint}"], "--workers", "1", cache=cache) as server, Client(server.address) as client:
        found = np.asarray(client.encode([TEXT]))
    # The log comes by another pipe than the answers, so all of it has been read only when the server has ended.
    return found, [each["message"] for each in server.records if each["level"] in ("warning", "error")]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 0x40  # a bit of a weight's exponent
    path.write_bytes(content)


@pytest.mark.skipif(not native.status()[0], reason=native.status()[1])
def test_it_is_served_all_the_same(checkpoint: Checkpoint, new_cache: Callable[[Path], Path], tmp_path: Path) -> None:
    source, library, marker = tmp_path / "planted.cpp", tmp_path / "planted.so", tmp_path / "marker"
    source.write_text(MARKING)
    command = [compiler(), "-shared", "-fPIC", f'-DMARKER="{marker}"', str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    cache = new_cache(tmp_path / "cache")
    compiled = compile_model(checkpoint("bert"), cache=cache)
    expected, told = vectors(checkpoint("bert"), cache)
    assert told == []

    flip(compiled / "weights.bin")
    found, told = vectors(checkpoint("bert"), cache)
    np.testing.assert_array_equal(found, expected)
    (line,) = told
    assert line == (
        f"{compiled / 'weights.bin'} has other content than was written (its SHA-256 differs); it is not used but put "
        f"aside as .aside.{compiled.name}, and made anew"
    )

    shutil.copy(library, compiled / "planted.so")
    seal(compiled)
    compiled.chmod(0o777)
    found, told = vectors(checkpoint("bert"), cache)
    np.testing.assert_array_equal(found, expected)
    assert [line.partition(";")[0] for line in told] == [f"{compiled} may be written to by others (mode 0777)"]
    assert not marker.exists()

    with Sealed.open(compiled) as sealed:
        sealed.check()
    assert vectors(checkpoint("bert"), cache)[1] == []
