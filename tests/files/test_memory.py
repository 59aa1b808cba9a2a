"""A large file takes no more memory than a small one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.imports import ROOT

# Peaks in MiB after files of these many rows; each row has 1 KiB of text that is carried, and a vector of 256 B.
MEASURE = """
import resource, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from tests.files.conftest import run

def write(path, rows):
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), use_dictionary=False) as writer:
        for start in range(0, rows, 2000):
            texts = [f"{number:08}" * 128 for number in range(start, min(rows, start + 2000))]
            writer.write_table(pa.table({"text": texts}))

vector = np.arange(64, dtype=np.float32)
for rows in (40_000, 100_000):
    write(sys.argv[1] + ".in.parquet", rows)
    report = run([sys.argv[1] + ".in.parquet"], sys.argv[1] + sys.argv[2], lambda _: vector, keep="all", overwrite=True)
    assert report.rows == rows
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Expect some MiB more for allocators, and for what is read ahead, where the larger file has 75 MiB more."""
    pytest.importorskip("pyarrow")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "t"), ".parquet"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    small, large = map(int, done.stdout.split())
    assert large - small < 48, done.stdout
