"""Measure one bulk stream through one server, and through two, in turns.

    .venv/bin/python -m benchmarks.shared_stream [--model MODEL] [--rounds 5] [--texts 3000]

Each server has one core of this machine for itself, its frontend included; the client may use all. The texts are words
of the corpus, in lognormal lengths; the first ones of a stream, which its windows fill with, do not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice

import numpy as np

from benchmarks.workloads import lognormal_lengths, sentences
from bertstream.client import Client
from tests.support.server import Server, running

BATCH = 64


def main() -> None:
    """Measure, and print each round and the median of the ratios."""
    options = arguments()
    texts = texts_of(options.texts)
    with ExitStack() as stack:
        cores = sorted(os.sched_getaffinity(0))[:2]
        servers = [stack.enter_context(on_core(core, options.model)) for core in cores]
        addresses = [server.address for server in servers]
        ratios = []
        for number in range(options.rounds):
            one, two = rate(addresses[number % 2], texts), rate(",".join(addresses), texts)
            ratios.append(two / one)
            print(f"one server: {one:,.0f} texts/s; two: {two:,.0f}")
    print(f"two servers / one, median: {statistics.median(ratios):.2f}")


@contextmanager
def on_core(core: int, model: str) -> Iterator[Server]:
    """Start a server with one core."""
    cores = os.sched_getaffinity(0)
    with ExitStack() as stack:
        os.sched_setaffinity(0, {core})
        try:
            server = stack.enter_context(running([model], "--workers", "1", "--frontends", "1"))
        finally:
            os.sched_setaffinity(0, cores)
        yield server


def rate(address: str, texts: list[str]) -> float:
    """Return the texts a second of one stream, after its first tenth."""
    began, done, first = 0.0, 0, len(texts) // 10
    with Client(address) as client:
        for batch in client.encode_stream(texts, batch_size=BATCH, ordered=False):
            done += len(batch)
            if not began and done >= first:
                began, first = time.perf_counter(), done
    return (done - first) / (time.perf_counter() - began)


def texts_of(count: int) -> list[str]:
    """Return texts of lognormal lengths."""
    words = cycle(word for sentence in sentences() for word in sentence.split())
    return [" ".join(islice(words, length)) for length in lognormal_lengths(count, np.random.default_rng(7)).tolist()]


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="the checkpoint (default: the embedded one)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=3000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
