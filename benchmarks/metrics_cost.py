"""Measure what counting costs: two servers by turns, one of them with the admin port and a reader of its metrics.

    .venv/bin/python -m benchmarks.metrics_cost [--against TREE] [--rounds 20] [--seconds 2] [--kinds tokenize,encode]

Both run the whole time, and each round loads first one and then the other, in an order that changes from round to
round, so that what else the machine does meets both alike. TREE is a checkout of another version to be the one without
metrics, such as the last one that had none; without it, the same version runs without its admin port. The output has
calls a second and the time of the server's processes for a call, which other processes hardly change, each with the
median ratio of all rounds and its 95 % interval by the sign test.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import comb
from pathlib import Path

import grpc
import psutil

from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, tokenization_pb2, tokenization_pb2_grpc, types_pb2

PORTIONS = ("protos", "client", "server", "workers")
SCRAPE_SECONDS = 5.0  # Prometheus' default is a minute, and 15 s are usual
CALLERS = 8
TEXTS = types_pb2.TextBatch(texts=types_pb2.Texts(texts=["The quick brown fox jumps over the lazy dog."]))
_ADDRESS, _ADMIN = re.compile(r"ready on (\S+)"), re.compile(r"admin at (\S+)")


@dataclass(frozen=True, slots=True)
class Load:
    """What one slice of time gave."""

    calls_per_second: float
    cpu_seconds: float  # of the server's processes, for a call


class Target:
    """A running server, and connections to it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        line = process.stdout.readline()
        found, admin = _ADDRESS.search(line), _ADMIN.search(line)
        if found is None:
            raise SystemExit(f"a server did not start: {line}")
        self.admin = admin[1] if admin else ""
        parent = psutil.Process(process.pid)
        self._processes = [parent, *parent.children(recursive=True)]
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.insecure_channel(found[1], options) for _ in range(CALLERS)]

    def load(self, kind: str, seconds: float) -> Load:
        """Make calls for that long, CALLERS at a time."""
        until, counts, before = time.monotonic() + seconds, [0] * CALLERS, self._cpu_seconds()

        def call(number: int) -> None:
            once = KINDS[kind](self._channels[number])
            while time.monotonic() < until:
                once()
                counts[number] += 1

        threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        calls = sum(counts)
        return Load(calls / seconds, (self._cpu_seconds() - before) / calls)

    def _cpu_seconds(self) -> float:
        return sum(sum(each.cpu_times()[:2]) for each in self._processes)


def _tokenize(channel: grpc.Channel) -> Callable[[], object]:
    stub = tokenization_pb2_grpc.TokenizationServiceStub(channel)
    return lambda: stub.TokenizeTexts(tokenization_pb2.TokenizeTextsRequest(inputs=TEXTS))


def _encode(channel: grpc.Channel) -> Callable[[], object]:
    stub = encoding_pb2_grpc.EncodingServiceStub(channel)
    return lambda: stub.EncodeTexts(encoding_pb2.EncodeTextsRequest(inputs=TEXTS))


KINDS = {"tokenize": _tokenize, "encode": _encode}


@contextmanager
def serving(tree: Path | None, *options: str) -> Iterator[Target]:
    """Serve the embedded model, by the code of a tree or by what is installed."""
    paths = os.pathsep.join(str(tree / portion) for portion in PORTIONS) if tree else ""
    command = [sys.executable, "-m", "bertstream.cli", "serve", "--port", "0", "--log-level", "error", *options]
    environment = {**os.environ, "PYTHONPATH": paths}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield Target(process)
    finally:
        process.terminate()
        process.wait(60)


def scrape(url: str, stop: threading.Event) -> None:
    """Read the metrics again and again, as Prometheus would."""
    while not stop.wait(SCRAPE_SECONDS):
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            answer.read()


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the median, by the sign test: between two of the values in order."""
    ordered, count = sorted(ratios), len(ratios)
    outside, place = 0.0, 0
    while place < (count - 1) // 2 and outside + comb(count, place) / 2**count <= 0.025:
        outside += comb(count, place) / 2**count
        place += 1
    place = max(0, place - 1)
    return ordered[place], ordered[-1 - place]


def compare(without: Target, with_metrics: Target, kind: str, rounds: int, seconds: float) -> list[str]:
    """Return a line for each number, with metrics beside without."""
    pairs: list[tuple[Load, Load]] = []
    for number in range(rounds + 1):
        order = (without, with_metrics) if number % 2 else (with_metrics, without)
        loads = {target: target.load(kind, seconds) for target in order}
        if number:  # the first round warms up
            pairs.append((loads[without], loads[with_metrics]))
    lines = []
    numbers: tuple[tuple[str, Callable[[Load], float]], ...] = (
        ("calls/s", lambda load: load.calls_per_second),
        ("CPU µs/call", lambda load: load.cpu_seconds * 1e6),
    )
    for name, of in numbers:
        ratios = [of(new) / of(old) for old, new in pairs]
        low, high = interval(ratios)
        old, new = (statistics.median(of(pair[side]) for pair in pairs) for side in (0, 1))
        lines.append(
            f"{kind:10} {name:12} without {old:9.1f}  with {new:9.1f}  "
            f"ratio {statistics.median(ratios):.4f} [{low:.4f}, {high:.4f}]"
        )
    return lines


def main() -> None:
    """Measure, and print the lines."""
    parser = argparse.ArgumentParser(description="Measure what counting costs.")
    parser.add_argument("--against", type=Path, help="a checkout of another version, without metrics")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each server in a round")
    parser.add_argument("--kinds", default="tokenize,encode", help=f"of {', '.join(KINDS)}")
    given = parser.parse_args()
    with serving(given.against) as without, serving(None, "--admin-port", "0") as with_metrics:
        stop = threading.Event()
        threading.Thread(target=scrape, args=(with_metrics.admin, stop), daemon=True).start()
        for kind in given.kinds.split(","):
            for line in compare(without, with_metrics, kind, given.rounds, given.seconds):
                print(line, flush=True)
        stop.set()


if __name__ == "__main__":
    main()
