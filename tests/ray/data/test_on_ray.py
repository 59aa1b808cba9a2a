"""Real actors of a real Ray: a job that is killed and run again, and the vectors of a server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.client import Client
from tests.support.hosted import needs_ray
from tests.support.server import eventually, running

pytestmark = pytest.mark.slow
FILES, ROWS = 4, 300
TEXTS = [f"the quick [MASK] fox {'and the lazy dog ' * (number % 7)}{number}" for number in range(ROWS)]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Yield the address of a cluster of one node."""
    needs_ray()
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the paths of sockets in it must be short
    command = [sys.executable, "-m", "tests.ray.data.cluster", folder, "2"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        found = process.stdout.readline().strip()
        assert found, "Ray did not start"
        yield found
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def job(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Return what a driver is given: a corpus of some files in folders, one row of which has no text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("corpus")
    for number in range(FILES):
        path = folder / "in" / f"part={number}" / "a.parquet"
        path.parent.mkdir(parents=True)
        texts = [None if number == 3 and row == 7 else text for row, text in enumerate(TEXTS)]
        pq.write_table(pa.table({"id": range(ROWS), "text": texts}), path)
    return {
        "source": str(folder / "in"),
        "output": str(folder / "out"),
        "model": f"bert={checkpoint('bert-pretraining')}",
        "server": {"cache": str(compile_cache)},
    }


@contextmanager
def driver(job: dict[str, Any], address: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a driver, which is killed at the end if it still runs."""
    command = [sys.executable, "-m", "tests.ray.data.driver", json.dumps(job)]
    environment = {**os.environ, "RAY_ADDRESS": address}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_job_that_is_killed_goes_on_and_gives_the_answers_of_a_server(
    address: str, job: dict[str, Any], compile_cache: Path
) -> None:
    import pyarrow.dataset as ds

    output = Path(job["output"])
    with driver(job, address) as killed:

        def begun() -> bool:
            records = [path.read_text() for path in output.glob("_bertstream/part=*/a.parquet.json")]
            return killed.poll() is not None or any(f'"rows": {ROWS}' in record for record in records)

        eventually(begun, "the first file", 200.0)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL

    with driver({**job, "tables": str(output.parent / "tables"), "texts": TEXTS[:50]}, address) as again:
        said, log = again.communicate(timeout=200)
    assert again.returncode == 0, log
    report = json.loads(said.splitlines()[-1])
    assert (report["files"], report["rows"], report["failed_rows"]) == (FILES, FILES * ROWS, 1)
    assert report["skipped"] >= 1
    (failed,) = [json.loads(line) for line in Path(report["failed_file"]).read_text().splitlines()]
    assert (failed["file"], failed["row"], failed["reason"]) == ("part=3/a.parquet", 7, "MISSING_VALUE")

    with running([job["model"]], "--workers", "1", cache=compile_cache) as server, Client(server.address) as client:
        expected, masks = client.encode(TEXTS), client.fill_mask(TEXTS[:50], top_k=2)
    table = ds.dataset(output, partitioning="hive").to_table().sort_by([("part", "ascending"), ("id", "ascending")])
    assert table["id"].to_pylist() == list(range(ROWS)) * FILES
    vectors = np.array(table["vector"].to_pylist(), np.float32)
    missing = 3 * ROWS + 7
    assert np.isnan(vectors[missing]).all()
    vectors[missing] = expected[7]
    np.testing.assert_allclose(vectors, np.tile(expected, (FILES, 1)), atol=1e-5)

    rows = {row["text"]: row for row in ds.dataset(output.parent / "tables").to_table().to_pylist()}
    assert sorted(rows) == sorted(TEXTS[:50])
    best = [rows[text]["masks"][0][0]["token_id"] for text in TEXTS[:50]]
    assert best == [candidates[0][0].token_id for candidates in masks]
    assert {row["error"] for row in rows.values()} == {None}
