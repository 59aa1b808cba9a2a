"""Where single texts wait while bulk streams take all of the machine, and what they cost the streams.

    .venv/bin/python -m benchmarks.mixed_load

Serves the embedded model, and in turns has it do nothing but single texts, nothing but bulk, and both. Single texts
come at random times, as from many users; a call that could not start when it was due has waited from then on. With
--address a running server is measured. `make bench` has the same figures beside others; this says how they come about.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import cycle
from multiprocessing import get_context

import numpy as np
import psutil

from benchmarks.figures import Spread, percentiles, spread
from benchmarks.peers.timing import paced
from benchmarks.workloads import lognormal_lengths, text_of_words
from bertstream.client import Client, Report, Timings

LEAD_SECONDS = 4.0  # bulk runs before anything is measured, so that every queue is as full as it gets
BULK_SEED = 1000
PARTS = ("tokenize", "queue", "compute", "elsewhere", "outside")


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the server."""

    address: str
    seconds: float  # of each measurement
    rate: float  # single texts a second
    streams: int  # of bulk
    server: int = 0  # the process's number, where it is our own


@dataclass(frozen=True, slots=True)
class Singles:
    """Calls of one text each."""

    seconds: list[float]  # from when each was due
    parts: list[dict[str, float]]  # of PARTS


@dataclass(frozen=True, slots=True)
class Bulk:
    """Of all streams."""

    texts_per_second: float
    texts_per_cpu_second: float  # of all processes of the server; nan where it is not our own
    compute: float  # the median, of a batch


@dataclass(slots=True)
class Found:
    """One entry for each round."""

    idle: list[Singles] = field(default_factory=list)
    loaded: list[Singles] = field(default_factory=list)
    bulk: list[Bulk] = field(default_factory=list)
    bulk_beside: list[Bulk] = field(default_factory=list)


@cache
def texts(seed: int) -> list[str]:
    """Of lognormal length."""
    generator = np.random.default_rng(seed)
    return [text_of_words(int(words), generator) for words in lognormal_lengths(300, generator)]


def single_texts(load: Load, seed: int) -> Singles:
    """Calls of one text each, for a while."""
    parts: list[dict[str, float]] = []
    with Client(load.address) as client:
        for text in texts(seed)[:4]:
            client.encode(text)  # opens the channels

        def call(text: str) -> None:
            reports: list[Report] = []
            began = time.monotonic()
            client.encode(text, report=reports.append)
            parts.append(parts_of(time.monotonic() - began, reports[0].timings))

        calls = [partial(call, text) for text in texts(seed)]
        return Singles(paced(calls, load.seconds, load.rate, seed), parts)


def parts_of(seconds: float, timings: Timings) -> dict[str, float]:
    """Where a call's time went."""
    known = {name: getattr(timings, name) or 0.0 for name in PARTS[:3]}
    served = timings.total or 0.0
    return known | {"elsewhere": served - sum(known.values()), "outside": seconds - served}


def stream(load: Load, start: float, end: float) -> tuple[int, list[float]]:
    """One endless stream: texts answered between two times of the monotonic clock, and each answer's compute time."""
    reports: list[Report] = []
    rows = 0
    with Client(load.address) as client:
        answers = client.encode_stream(cycle(texts(BULK_SEED)), ordered=False, report=reports.append)
        for batch in answers:
            now = time.monotonic()
            if now >= end:
                break
            rows += len(batch) if now >= start else 0
        answers.close()
    return rows, [report.timings.compute for report in reports if report.timings.compute is not None]


def bulk(load: Load, start: float, processes: ProcessPoolExecutor) -> Bulk:
    """All streams at once; returns when they have ended."""
    running = [processes.submit(stream, load, start, start + load.seconds) for _ in range(load.streams)]
    time.sleep(max(0.0, start - time.monotonic()))
    before = cpu_seconds(load.server)
    time.sleep(max(0.0, start + load.seconds - time.monotonic()))
    spent = cpu_seconds(load.server) - before
    found = [each.result() for each in running]
    rows = sum(rows for rows, _ in found)
    compute = [seconds for _, listed in found for seconds in listed]
    return Bulk(rows / load.seconds, rows / spent, float(np.median(compute)))


def cpu_seconds(server: int) -> float:
    """What the server's processes have taken; unlike the time on the wall, others on this machine hardly change it."""
    if not server:
        return float("nan")
    times = [each.cpu_times() for each in psutil.Process(server).children(recursive=True)]
    return sum(each.user + each.system for each in times)


def one_round(load: Load, number: int, processes: ProcessPoolExecutor, found: Found) -> None:
    """Single texts, bulk, both."""
    found.idle.append(single_texts(load, number))
    found.bulk.append(bulk(load, time.monotonic() + LEAD_SECONDS, processes))
    start = time.monotonic() + LEAD_SECONDS
    beside: list[Bulk] = []
    thread = threading.Thread(target=lambda: beside.append(bulk(load, start, processes)))
    thread.start()
    time.sleep(start - time.monotonic())
    found.loaded.append(single_texts(load, number))
    thread.join()
    found.bulk_beside += beside


def show(found: Found) -> None:
    """Tables."""
    batch = spread([each.compute for each in found.bulk])
    rate_alone = spread([each.texts_per_second for each in found.bulk])
    rate_beside = spread([each.texts_per_second for each in found.bulk_beside])
    print(f"\none batch computes {milliseconds(batch)} beside others like it\n")
    print("| single texts, ms | calls | p50 | p95 | p99 | p99 by rounds | p99 / batch |\n|---|---|---|---|---|---|---|")
    measured = (("idle server", found.idle), ("under bulk", found.loaded))
    for name, rounds in measured:
        calls = percentiles([seconds for each in rounds for seconds in each.seconds])
        by_round = spread([percentiles(each.seconds).p99 for each in rounds])
        cells = " | ".join(f"{1e3 * seconds:.0f}" for seconds in (calls.p50, calls.p95, calls.p99))
        count = sum(len(each.seconds) for each in rounds)
        print(f"| {name} | {count} | {cells} | {milliseconds(by_round)} | {calls.p99 / batch.median:.2f} |")
    print(f"\n| where, ms (mean / p99) | {' | '.join(PARTS)} |\n|---|{'---|' * len(PARTS)}")
    for name, rounds in measured:
        columns = [[parts[part] for each in rounds for parts in each.parts] for part in PARTS]
        cells = " | ".join(f"{1e3 * np.mean(column):.1f} / {1e3 * percentiles(column).p99:.1f}" for column in columns)
        print(f"| {name} | {cells} |")
    pairs = list(zip(found.bulk, found.bulk_beside, strict=True))
    kept = spread([beside.texts_per_second / alone.texts_per_second for alone, beside in pairs])
    kept_cpu = spread([beside.texts_per_cpu_second / alone.texts_per_cpu_second for alone, beside in pairs])
    print(f"\nbulk alone {texts_of(rate_alone)}, beside single texts {texts_of(rate_beside)}")
    print(f"bulk keeps {percent(kept)} of its texts a second, {percent(kept_cpu)} of those a second of processor time")


def milliseconds(seconds: Spread) -> str:
    """With its spread."""
    return f"{1e3 * seconds.median:.0f} ({1e3 * seconds.least:.0f} to {1e3 * seconds.most:.0f})"


def percent(share: Spread) -> str:
    """With its spread."""
    return f"{share.median:.0%} ({share.least:.0%} to {share.most:.0%})"


def texts_of(rate: Spread) -> str:
    """With its spread."""
    return f"{rate.median:.0f} ({rate.least:.0f} to {rate.most:.0f}) texts/s"


@contextmanager
def serving(options: Sequence[str]) -> Iterator[tuple[str, int]]:
    """A server of its own; its address and its process's number."""
    command = [sys.executable, "-m", "bertstream.cli", "serve", "--port", "0", "--log-level", "error", *options]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        ready = re.search(r"ready on (\S+)", server.stdout.readline())
        if ready is None:
            raise SystemExit("the server did not start")
        yield ready[1], server.pid
    finally:
        server.terminate()
        server.wait(60)
        server.stdout.close()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What is not known is the server's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="of a running server; others' load there spoils the figures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each of the three in a round")
    parser.add_argument("--rate", type=float, default=5.0, help="single texts a second")
    parser.add_argument("--streams", type=int, default=2, help="bulk streams at once")
    parser.add_argument("server_options", nargs="*", help="after --, for `bertstream serve`")
    return parser.parse_args(arguments)


def measure(address: str, options: argparse.Namespace, server: int = 0) -> None:
    """All rounds."""
    load = Load(address, options.seconds, options.rate, options.streams, server)
    found = Found()
    spawn = get_context("spawn")
    with ProcessPoolExecutor(load.streams, spawn, initializer=texts, initargs=(BULK_SEED,)) as processes:
        list(processes.map(time.sleep, [1.0] * load.streams))  # starts all of them
        for number in range(options.rounds):
            one_round(load, number, processes, found)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    print(f"{os.cpu_count()} cores; {load.rate:g} single texts a second, {load.streams} bulk streams")
    show(found)


def main() -> None:
    """Measures a server of its own, or a running one."""
    options = parse(sys.argv[1:])
    if options.address:
        measure(options.address, options)
        return
    with serving(options.server_options) as (address, server):
        measure(address, options, server)


if __name__ == "__main__":
    main()
