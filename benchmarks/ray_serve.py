"""Measure what the proxy of Ray Serve costs: the same texts to a server without Ray, and to one and two replicas.

    .venv/bin/python -m benchmarks.ray_serve [--model DIR] [--texts 2000] [--calls 100] [--rounds 5]

Each worker has one thread: a server with one and with two of them, beside one and two replicas of one worker. A round
takes all of them, in an order that changes from round to round, so that what else the machine does meets all alike. The
output has medians of all rounds: texts a second in bulk, and the time of a call of one text.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.workloads import CORPUS
from bertstream.client import Client
from bertstream.workers.compile.checkpoints import embedded
from bertstream.workers.compile.revisions import default_cache
from tests.support.ray_serve import Application, ray_server
from tests.support.server import running

MODEL = "measured"


@dataclass(slots=True)
class Contender:
    """One way to serve, and what was measured of it."""

    name: str
    client: Client
    texts_per_second: list[float] = field(default_factory=list)
    call_seconds: list[float] = field(default_factory=list)

    def measure(self, texts: Sequence[str], calls: int) -> None:
        """Ask for vectors of the texts in bulk, and of one text again and again."""
        started = time.perf_counter()
        count = sum(len(batch.ids) for batch in self.client.encode_stream(texts, model=MODEL, ordered=False))
        assert count == len(texts)
        self.texts_per_second.append(count / (time.perf_counter() - started))
        for text in texts[:calls]:
            started = time.perf_counter()
            self.client.encode(text, model=MODEL)
            self.call_seconds.append(time.perf_counter() - started)


@contextmanager
def contenders(model: Path, cache: Path) -> Iterator[list[Contender]]:
    """Start all servers, and yield a client of each."""
    with ExitStack() as stack:
        opened: list[Contender] = []
        for workers in (1, 2):
            options = ("--workers", str(workers), "--threads", "1")
            server = stack.enter_context(running([f"{MODEL}={model}"], *options, cache=cache))
            client = stack.enter_context(Client(server.address))
            opened.append(Contender(f"server, {workers} worker{'s' if workers > 1 else ''}", client))
        for replicas in (1, 2):
            application = Application([f"{MODEL}={model}"], replicas, args={"workers": 1, "threads": 1})
            rays = stack.enter_context(ray_server([application], cache))
            for calls in range(1, replicas + 1):  # a stream over the proxy is one call, which one replica answers
                client = stack.enter_context(Client(rays.address, stream_calls=calls))
                of_calls = f", {calls} calls a stream" if calls > 1 else ""
                opened.append(
                    Contender(f"Ray Serve, {replicas} replica{'s' if replicas > 1 else ''}{of_calls}", client)
                )
        yield opened


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=embedded(), help="a checkpoint (default: the embedded one)")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parsed = parser.parse_args()
    lines = CORPUS.read_text(encoding="utf-8").splitlines()
    texts = [f"{number} {lines[number % len(lines)]}" for number in range(parsed.texts)]
    with contenders(parsed.model, Path(default_cache())) as asked:
        for each in asked:
            each.measure(texts[:200], 10)
            each.texts_per_second.clear()
            each.call_seconds.clear()
        for number in range(parsed.rounds):
            first = number % len(asked)
            for each in asked[first:] + asked[:first]:
                each.measure(texts, parsed.calls)
        print(report(asked))


def report(asked: Sequence[Contender]) -> str:
    """Return the table."""
    base = asked[0]
    rows = [
        "| | texts/s in bulk | of the first | p50 of one text, ms | more than the first, ms |",
        "|---|---|---|---|---|",
    ]
    for each in asked:
        ratio = statistics.median(
            own / first for own, first in zip(each.texts_per_second, base.texts_per_second, strict=True)
        )
        rate, call = statistics.median(each.texts_per_second), statistics.median(each.call_seconds) * 1e3
        more = call - statistics.median(base.call_seconds) * 1e3
        rows.append(f"| {each.name} | {rate:.0f} | {ratio:.2f} | {call:.1f} | {more:.1f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
