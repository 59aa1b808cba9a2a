"""Samples of a server's processes, and the file in which they are kept."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.soak.judging import Sample
from tests.support.server import Server


def take(server: Server, seconds: float, calls: int) -> Iterator[Sample]:
    """Yield a sample of each process: of the supervisor, and of its children, by their names."""
    processes = {"supervisor": psutil.Process(server.process.pid)}
    for child in server.children("bertstream."):
        processes[child.cmdline()[-2]] = child
    for name, process in processes.items():
        memory = process.memory_info().rss
        yield Sample(seconds, name, process.pid, calls, memory, process.num_fds(), process.num_threads())


def write(samples: Sequence[Sample], file: Path) -> None:
    """Write a line a sample."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow([field.name for field in dataclasses.fields(Sample)])
        writer.writerows(dataclasses.astuple(sample) for sample in samples)
