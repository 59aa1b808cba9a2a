"""Two callers of one server: one with 200 connections and endless work, and one that makes one call at a time."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks import models
from benchmarks.markdown import table
from benchmarks.overload.offering import Call, Callers, requests
from benchmarks.overload.outcomes import percentile
from benchmarks.overload.scenarios import PROBE_GAP, TEXTS, OverloadPlan
from benchmarks.processes import PATIENT, Server
from benchmarks.rounds import say
from benchmarks.workloads import Workload, lognormal
from bertstream.server.keys.editing import add, hash_of, new_key
from bertstream.server.keys.file import KeyTable

NAME = "fair"
TITLE = "a caller with 200 connections beside one with one call at a time"
HEAVY, LIGHT = "heavy", "light"
CONNECTIONS = 200
AT_ONCE = 400  # calls of the heavy caller


@dataclass(frozen=True, slots=True)
class Share:
    """How one caller fares. Times are in seconds, rates in tokens per second."""

    caller: str
    tokens: float  # answered
    p50: float
    p99: float
    statuses: dict[str, int]


@dataclass(frozen=True, slots=True)
class Shares:
    """The light caller alone, then the heavy one alone, then both at once."""

    light_alone: Share
    heavy_alone: Share
    heavy: Share
    light: Share


def measure(plan: OverloadPlan, checkpoint: Path, cache: Path, flags: Sequence[str]) -> Shares:
    """Measure both callers, who are told apart by their keys. Raises Failed if the server does not start."""
    with tempfile.TemporaryDirectory() as folder:
        file, keys = Path(folder, "keys.toml"), {name: new_key() for name in (HEAVY, LIGHT)}
        for name, key in keys.items():
            add(file, KeyTable(name, hash_of(key)))
        server = Server(checkpoint, ["--keys-file", str(file), *flags], cache, PATIENT)
        try:
            # The heavy caller is another process, for what it does must not keep the light one from calling.
            with ProcessPoolExecutor(1, get_context("spawn")) as other:
                return asyncio.run(shares(plan, server.address, keys, checkpoint, other))
        finally:
            server.close()


async def shares(
    plan: OverloadPlan, address: str, keys: dict[str, str], checkpoint: Path, other: ProcessPoolExecutor
) -> Shares:
    """Measure the callers alone and together."""

    def flood(seconds: float) -> asyncio.Future[Share]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(other, heavy, address, keys[HEAVY], checkpoint, seconds, plan.deadline)

    async with Callers(address, 1, keys[LIGHT]) as light:
        source = requests(workload_of(checkpoint))

        async def one_at_a_time(begin: float = 0.0) -> Share:
            await asyncio.sleep(begin)
            return shared(LIGHT, await light.probe(source, PROBE_GAP, plan.seconds), plan.seconds)

        await flood(plan.deadline)  # the server learns its pace
        light_alone = await one_at_a_time()
        heavy_alone = await flood(plan.seconds)
        both = await asyncio.gather(flood(plan.seconds + 2 * plan.deadline), one_at_a_time(plan.deadline))
    made = Shares(light_alone, heavy_alone, *both)
    say(f"{NAME}: light {made.light}, alone {made.light_alone}; heavy {made.heavy}, alone {made.heavy_alone}")
    return made


def heavy(address: str, key: str, checkpoint: Path, seconds: float, deadline: float) -> Share:
    """Call as the heavy caller."""

    async def call() -> list[Call]:
        async with Callers(address, CONNECTIONS, key) as callers:
            return await callers.keep_busy(requests(workload_of(checkpoint)), AT_ONCE, seconds, deadline)

    return shared(HEAVY, asyncio.run(call()), seconds)


def workload_of(checkpoint: Path) -> Workload:
    """Return the texts of both callers."""
    return lognormal("short", TEXTS, models.token_counter(checkpoint), seed=6)


def shared(caller: str, calls: Sequence[Call], seconds: float) -> Share:
    """Return how the caller of these calls has fared."""
    answered = [call for call in calls if call.status == "OK" and call.ended <= seconds]
    times = [call.seconds for call in answered]
    return Share(
        caller,
        sum(call.tokens for call in answered) / seconds,
        percentile(times, 50),
        percentile(times, 99),
        dict(Counter(call.status for call in calls)),
    )


def figures(made: Shares) -> str:
    """Return a table with a row for each caller, alone and beside the other."""
    rows = [
        ("light, alone", made.light_alone),
        ("light, beside heavy", made.light),
        ("heavy, alone", made.heavy_alone),
        ("heavy, beside light", made.heavy),
    ]
    header = ("caller", "tokens/s", "p50, ms", "p99, ms", "statuses")
    return table(
        header,
        [
            (
                name,
                f"{share.tokens:.0f}",
                f"{share.p50 * 1e3:.0f}",
                f"{share.p99 * 1e3:.0f}",
                ", ".join(f"{status} {count}" for status, count in sorted(share.statuses.items())),
            )
            for name, share in rows
        ],
    )
