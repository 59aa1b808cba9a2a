"""Timing of calls."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

Call = Callable[[], object]


def concurrently(calls: Sequence[Call], concurrency: int) -> list[float]:
    """Run all calls, `concurrency` at a time, and return the seconds of each. Raises what they raise."""
    if concurrency == 1:
        return [timed(call) for call in calls]
    with ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(timed, calls))


def best(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """Run calls in turns, and return the least seconds of each in this thread's time, which others disturb less."""
    found = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            found[name] = min(found[name], time.thread_time() - start)
    return found


def timed(call: Call) -> float:
    """Run a call, and return its seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def due_times(seconds: float, rate: float, seed: int) -> list[float]:
    """Return the times within `seconds` at which calls are due, as from many independent users (a Poisson process)."""
    generator, due, times = random.Random(seed), 0.0, []
    while (due := due + generator.expovariate(rate)) < seconds:
        times.append(due)
    return times


def paced(calls: Iterable[Call], seconds: float, rate: float, seed: int, threads: int = 16) -> list[float]:
    """Run calls when they are due, and return the seconds of each since then, so that waiting counts too."""
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
