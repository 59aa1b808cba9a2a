"""The loads on a server: what is sent, to which models, and what else the server does meanwhile."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks import models, usage
from benchmarks.overload.offering import Callers, requests
from benchmarks.overload.outcomes import Outcome, judged, percentile, settled_after
from benchmarks.processes import PATIENT, Server
from benchmarks.rounds import say
from benchmarks.workloads import Workload, equal, lognormal
from bertstream.client import Client

AT_ONCE = 32  # callers that measure the server's capacity
WARM_SECONDS = 3.0
PROBE_GAP = 0.02
SETTLING_SECONDS = 3.0
TEXTS = 1024


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load."""

    name: str
    title: str
    long_share: float = 0.0  # the share of texts with 512 tokens; the others are of lognormal length
    streams: int = 0  # bulk streams that run beside the calls
    models: tuple[str, ...] = ("bench",)


SCENARIOS = (
    Scenario("short", "texts of lognormal length"),
    Scenario("mix", "every tenth text has 512 tokens", long_share=0.1),
    Scenario("streams", "two bulk streams beside", streams=2),
    Scenario("models", "two models", models=("bench", "other")),
)


@dataclass(frozen=True, slots=True)
class OverloadPlan:
    """How many loads to put on a server, and for how long."""

    factors: tuple[float, ...]  # of the capacity
    seconds: float  # of each load
    deadline: float  # of each call, in seconds


@dataclass(frozen=True, slots=True)
class Result:
    """The results of one scenario. Rates are in calls per second, times in seconds.

    Overloaded, a server has time for more of the short texts than of the long ones, so work is compared in tokens.
    """

    name: str
    title: str
    capacity: float  # beside the streams, if there are any
    capacity_tokens: float  # the same, in tokens per second
    idle_p50: float
    outcomes: tuple[Outcome, ...]
    settled: float  # time after the end of the greatest load until latencies are normal
    memory_before: int


def measure(scenario: Scenario, plan: OverloadPlan, checkpoint: Path, cache: Path, flags: Sequence[str]) -> Result:
    """Put each load on a new server in turn, the greatest last. Raises Failed if the server does not start."""
    others = [f"{name}={checkpoint}" for name in scenario.models[1:]]
    server = Server(checkpoint, [*others, *flags], cache, PATIENT)
    try:
        with ExitStack() as stack:
            for _ in range(scenario.streams):
                stack.enter_context(streaming(server.address, workload_of(scenario, checkpoint).texts))
            return asyncio.run(loads(scenario, plan, server, workload_of(scenario, checkpoint)))
    finally:
        server.close()


async def loads(scenario: Scenario, plan: OverloadPlan, server: Server, workload: Workload) -> Result:
    """Measure the server under each load."""
    generator = np.random.default_rng(0)
    source = requests(workload, scenario.models)
    async with Callers(server.address) as callers:
        await callers.keep_busy(source, AT_ONCE, WARM_SECONDS)
        alone = [call.seconds for call in await callers.probe(source, PROBE_GAP, SETTLING_SECONDS)]
        idle, normal = percentile(alone, 50), 2 * max(alone)
        busy = await callers.keep_busy(source, AT_ONCE, plan.seconds)
        done = [call for call in busy if call.ended <= plan.seconds]
        capacity, capacity_tokens = len(done) / plan.seconds, sum(call.tokens for call in done) / plan.seconds
        before = usage.memory([server.pid])
        say(f"{scenario.name}: capacity {capacity:.1f} calls/s, idle p50 {idle * 1e3:.1f} ms")
        outcomes, settled = [], 0.0
        for factor in plan.factors:
            spent, began = usage.processor(server.pid, [os.getpid()]), time.monotonic()
            calls = await callers.offer(source, factor * capacity, plan.seconds, plan.deadline, generator)
            took = usage.spent(spent, usage.processor(server.pid, [os.getpid()]))
            cores = {role: seconds / (time.monotonic() - began) for role, seconds in took.items()}
            outcome = judged(calls, factor, plan.seconds, plan.deadline, usage.memory([server.pid]), cores)
            settled = settled_after(await callers.probe(source, PROBE_GAP, SETTLING_SECONDS), normal)
            used = ", ".join(f"{role} {number:.2f}" for role, number in cores.items())
            say(
                f"{scenario.name}: {factor:g} x offered: {outcome.good_tokens / capacity_tokens:.0%} of capacity's"
                f" tokens in time, p99 {outcome.answered_p99:.2f} s, refused in {outcome.refused_p50 * 1e3:.0f} ms,"
                f" {outcome.statuses}, normal after {settled:.2f} s, cores {used}"
            )
            outcomes.append(outcome)
    return Result(scenario.name, scenario.title, capacity, capacity_tokens, idle, tuple(outcomes), settled, before)


def workload_of(scenario: Scenario, checkpoint: Path) -> Workload:
    """Return the texts of the scenario's calls, one for each."""
    count_tokens = models.token_counter(checkpoint)
    short = lognormal("short", TEXTS, count_tokens, seed=6)
    if not scenario.long_share:
        return short
    every = round(1 / scenario.long_share)
    long = equal("long", 16, 512, count_tokens, seed=7)
    chosen = [(long, number // every % 16) if number % every == 0 else (short, number) for number in range(TEXTS)]
    texts, tokens = (tuple(getattr(each, name)[at] for each, at in chosen) for name in ("texts", "tokens"))
    return Workload("mix", texts, tokens)


@contextmanager
def streaming(address: str, texts: Sequence[str]) -> Iterator[None]:
    """Keep an endless stream of bulk work going."""
    over = threading.Event()

    def run() -> None:
        with Client(address) as client:
            batches = client.encode_stream(cycle(texts))
            while not over.is_set():
                list(islice(batches, 1))
            batches.close()

    thread = threading.Thread(target=run, name="stream")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
