"""Measure jobs of Ray Data beside a plain server, and on two nodes beside one, in turns.

    .venv/bin/python -m benchmarks.ray_data one-machine [--model MODEL] [--rounds 3] [--files 8] [--rows 2000]
    .venv/bin/python -m benchmarks.ray_data two-nodes [the same]

The texts are words of the corpus, in lognormal lengths. Of a job counts what comes between each actor's first file and
its last, and of a server what comes after as many rows as a file has, so that nobody's start counts. Beside the rate by
the clock there is that by processor time, of this process and all that it has started, which other users of the machine
hardly change. The nodes are processes of this machine that have one core each, with an actor of one core; Ray's head
and the driver may use all cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.workloads import lognormal_lengths, sentences
from bertstream.client import Client
from bertstream.ray import encode_files
from tests.support.server import running

STORE_BYTES = 100 << 20


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a run is."""

    rows: int
    seconds: float
    cpu_seconds: float

    @classmethod
    def now(cls, rows: int) -> Mark:
        """Return how far it is now."""
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            note_cpu_seconds(process)
        return cls(rows, time.monotonic(), sum(_SPENT.values()))

    def rates_since(self, earlier: Mark) -> tuple[float, float]:
        """Return the texts a second of the clock, and of processor time."""
        rows = self.rows - earlier.rows
        return rows / (self.seconds - earlier.seconds), rows / (self.cpu_seconds - earlier.cpu_seconds)


def main() -> None:
    """Measure what is asked for, and print each round and the medians of the ratios."""
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))  # Ray's sockets are in it, whose paths must be short
    try:
        corpus = write_corpus(folder / "corpus", options.files, options.rows)
        measure = {"one-machine": one_machine, "two-nodes": two_nodes}[options.what]
        names, rounds = measure(options, folder, corpus)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for first, second in rounds:
        told = [f"{rate:,.0f} texts/s, {cpu:,.1f} by processor time" for rate, cpu in (first, second)]
        print(f"{names[0]}: {told[0]}; {names[1]}: {told[1]}")
    clock, cpu = (statistics.median(second[at] / first[at] for first, second in rounds) for at in (0, 1))
    print(f"{names[1]} / {names[0]}, medians: {clock:.2f} by the clock, {cpu:.2f} by processor time")


_SPENT: dict[psutil.Process, float] = {}  # the processor time of all processes, also of those that have ended since


def note_cpu_seconds(process: psutil.Process) -> None:
    """Note the processor time of a process, unless it has ended."""
    with suppress(psutil.Error):
        spent = process.cpu_times()
        _SPENT[process] = float(spent.user + spent.system)


def one_machine(options: argparse.Namespace, folder: Path, corpus: Path) -> tuple[tuple[str, str], list[Any]]:
    """Return texts a second of a server and of a job with one actor on all cores, for each round."""
    with started_ray(folder, [os.cpu_count() or 1]), running([options.model]) as server:
        pairs = []
        for number in range(options.rounds):
            plain = server_rate(server.address, corpus, options.rows)
            pairs.append((plain, job_rate(corpus, folder / f"out-{number}", options.model, actors=1)))
    return ("server", "Ray Data"), pairs


def two_nodes(options: argparse.Namespace, folder: Path, corpus: Path) -> tuple[tuple[str, str], list[Any]]:
    """Return texts a second of a job on one node and on two, for each round."""
    with started_ray(folder, [0, 1, 1]):
        pairs = [
            tuple(
                job_rate(corpus, folder / f"out-{number}-{nodes}", options.model, actors=nodes, num_cpus=1)
                for nodes in (1, 2)
            )
            for number in range(options.rounds)
        ]
    return ("one node", "two nodes"), pairs


def server_rate(address: str, corpus: Path, warm_rows: int) -> tuple[float, float]:
    """Return the rates of one bulk stream, after some rows."""
    texts = [text for path in sorted(corpus.rglob("*.parquet")) for text in pq.read_table(path)["text"].to_pylist()]
    began, done = None, 0
    with Client(address) as client:
        for batch in client.encode_stream(texts, batch_size=min(256, warm_rows)):
            done += len(batch)
            if began is None and done >= warm_rows:
                began = Mark.now(done)
    assert began is not None
    return Mark.now(done).rates_since(began)


def job_rate(corpus: Path, output: Path, model: str, actors: int, **pool: Any) -> tuple[float, float]:
    """Return the rates of a job, after the first file of each actor: two that begin together end together."""
    marks: list[Mark] = []
    report = encode_files(
        corpus,
        output,
        model,
        actors=actors,
        progress=lambda progress: marks.append(Mark.now(progress.rows)),
        **pool,
    )
    assert report.ok, report
    return marks[-1].rates_since(marks[actors - 1])


def write_corpus(folder: Path, files: int, rows: int) -> Path:
    """Write files of texts, and return their folder."""
    folder.mkdir()
    words = cycle(word for sentence in sentences() for word in sentence.split())
    lengths = lognormal_lengths(files * rows, np.random.default_rng(7)).tolist()
    texts = [" ".join(islice(words, length)) for length in lengths]
    for number in range(files):
        pq.write_table(pa.table({"text": texts[number * rows :][:rows]}), folder / f"{number:03}.parquet")
    return folder


@contextmanager
def started_ray(folder: Path, cpus: list[int]) -> Iterator[None]:
    """Start nodes with so many CPUs each, and join them; of several, each after the first has one core of its own."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(folder)}
    import ray
    import ray.data
    from ray.cluster_utils import Cluster

    cores = sorted(os.sched_getaffinity(0))
    head = {"num_cpus": cpus[0], "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": STORE_BYTES})
    try:
        for count, core in zip(cpus[1:], cores, strict=False):
            os.sched_setaffinity(0, {core})
            cluster.add_node(num_cpus=count, object_store_memory=STORE_BYTES)
            os.sched_setaffinity(0, cores)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("one-machine", "two-nodes"))
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="the checkpoint (default: the embedded one)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=8, help="at least 3, as each actor's first does not count")
    parser.add_argument("--rows", type=int, default=2000, help="of each file")
    options = parser.parse_args()
    if options.files < 3 or options.rows < 1 or options.rounds < 1:
        parser.error("there is nothing to measure in less than 3 files of 1 row and 1 round")
    return options


if __name__ == "__main__":
    main()
