"""Calls, and how long each takes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

Call = Callable[[], object]


def concurrently(calls: Iterable[Call], concurrency: int) -> list[float]:
    """Run all calls, so many at a time, each thread taking the next one; the seconds of each. Raises what they do."""
    waiting, lock = iter(calls), threading.Lock()
    if concurrency == 1:
        return [timed(call) for call in waiting]
    with ThreadPoolExecutor(concurrency) as pool:
        lanes = [pool.submit(_lane, waiting, lock) for _ in range(concurrency)]
        return [seconds for lane in lanes for seconds in lane.result()]


def _lane(waiting: Iterator[Call], lock: threading.Lock) -> list[float]:
    taken: list[float] = []
    while True:
        with lock:
            call = next(waiting, None)
        if call is None:
            return taken
        taken.append(timed(call))


def timed(call: Call) -> float:
    """Seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def due_times(seconds: float, rate: float, seed: int) -> list[float]:
    """When calls are due within so many seconds, as if from many independent users: a Poisson process."""
    generator, due, times = random.Random(seed), 0.0, []
    while (due := due + generator.expovariate(rate)) < seconds:
        times.append(due)
    return times


def paced(calls: Iterable[Call], seconds: float, rate: float, seed: int, threads: int = 16) -> list[float]:
    """Run calls when they are due; the seconds of each from then on, so that a call that had to wait is no better."""
    start = time.perf_counter()

    def late(call: Call, due: float) -> float:
        call()
        return time.perf_counter() - start - due

    with ThreadPoolExecutor(threads) as pool:
        under_way = []
        for due, call in zip(due_times(seconds, rate, seed), cycle(calls), strict=False):
            time.sleep(max(0.0, start + due - time.perf_counter()))
            under_way.append(pool.submit(late, call, due))
        return [call.result() for call in under_way]
