"""The measurements of `bertstream bench`: how fast a server is, as a client sees it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bertstream.cli._interrupt import check
from bertstream.client import Client, Usage

# Everyday words of one or two tokens each.
WORDS = """
the river rose after three days of rain and lower fields are under water let dough rest overnight then bake bread
in a very hot oven night train to coast leaves at ten from platform four telescope found vapour around distant
planet my grandmother keeps bees behind orchard sells their honey market on committee postponed its decision until
auditors have finished report he tuned old piano by ear one string another whole house was key museum reopened
wing with exhibition maps fifteenth century scientists measured how quickly glacier retreats each summer
"""
MU, SIGMA, SHORTEST, LONGEST = 3.7, 0.8, 3, 400  # lognormal numbers of words per text, about 50 on average


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of results. The latencies are those of calls with one text, and None for a stream."""

    what: str
    concurrency: int  # 0 for a stream
    texts: int
    tokens: int
    seconds: float
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Bench:
    """Measures one model of a server."""

    def __init__(self, connection: Client, model: str, max_length: int | None, timeout: float | None) -> None:
        self._client, self._model, self._max_length, self._timeout = connection, model, max_length, timeout

    def stream(self, texts: Sequence[str]) -> Measured:
        """Measure one stream of all texts."""
        used: list[Usage] = []
        start = time.perf_counter()
        batches = self._client.encode_stream(
            texts,
            model=self._model,
            max_length=self._max_length,
            timeout=self._timeout,
            report=lambda report: used.append(report.usage),
        )
        answered = 0
        for batch in batches:
            check()
            answered += len(batch)
        return Measured("stream", 0, answered, sum(use.tokens for use in used), time.perf_counter() - start)

    def calls(self, texts: Sequence[str], concurrency: int) -> Measured:
        """Measure one call per text, with `concurrency` calls at once."""
        used: list[Usage] = []

        def call(text: str) -> float:
            start = time.perf_counter()
            self._client.encode(
                text,
                model=self._model,
                max_length=self._max_length,
                timeout=self._timeout,
                report=lambda report: used.append(report.usage),
            )
            return time.perf_counter() - start

        start = time.perf_counter()
        latencies = call_for_each(call, texts, concurrency)
        seconds = time.perf_counter() - start
        p50, p95, p99 = (float(value) for value in np.percentile(latencies, [50, 95, 99], method="inverted_cdf"))
        what = f"{concurrency} call{'s' if concurrency > 1 else ''} at once"
        return Measured(what, concurrency, len(texts), sum(use.tokens for use in used), seconds, p50, p95, p99)


def call_for_each(call: Callable[[str], float], texts: Sequence[str], threads: int) -> list[float]:
    """Return the call's results for all texts, made by several threads, each of which takes the next text."""
    waiting, lock = iter(texts), threading.Lock()

    def lane() -> Iterator[float]:
        while True:
            check()
            with lock:
                text = next(waiting, None)
            if text is None:
                return
            yield call(text)

    if threads == 1:
        return list(lane())
    with ThreadPoolExecutor(threads) as pool:
        lanes = [pool.submit(lambda: list(lane())) for _ in range(threads)]
        return [seconds for future in lanes for seconds in future.result()]


def made_up(count: int, seed: int, length: int | None) -> list[str]:
    """Return texts of real words in random order, with `length` words each, or of lognormal lengths for None."""
    generator = random.Random(seed)
    lengths = [length or _length(generator) for _ in range(count)]
    words = WORDS.split()
    return [" ".join(generator.choices(words, k=length)) for length in lengths]


def _length(generator: random.Random) -> int:
    return min(LONGEST, max(SHORTEST, round(generator.lognormvariate(MU, SIGMA))))
