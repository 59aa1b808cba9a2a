"""Two callers of one server: one with 200 connections and endless work, and one that makes one call at a time."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import models
from benchmarks.overload.offering import Call, Callers, Request, requests
from benchmarks.overload.outcomes import percentile
from benchmarks.overload.scenarios import PROBE_GAP, TEXTS, OverloadPlan
from benchmarks.processes import PATIENT, Server
from benchmarks.rounds import say
from benchmarks.tables import table
from benchmarks.workloads import lognormal
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
            return asyncio.run(shares(plan, server.address, keys, checkpoint))
        finally:
            server.close()


async def shares(plan: OverloadPlan, address: str, keys: dict[str, str], checkpoint: Path) -> Shares:
    """Measure the callers alone and together."""
    workload = lognormal("short", TEXTS, models.token_counter(checkpoint), seed=6)
    heavy_source, light_source = requests(workload), requests(workload)
    async with Callers(address, CONNECTIONS, keys[HEAVY]) as heavy, Callers(address, 1, keys[LIGHT]) as light:

        async def flood() -> Share:
            calls = await heavy.keep_busy(heavy_source, AT_ONCE, plan.seconds, plan.deadline)
            return shared(HEAVY, calls, plan.seconds)

        await heavy.keep_busy(heavy_source, AT_ONCE, plan.deadline, plan.deadline)  # the server learns its pace
        alone = await one_at_a_time(light, light_source, plan.seconds)
        heavy_alone = await flood()
        both = await asyncio.gather(flood(), one_at_a_time(light, light_source, plan.seconds))
    made = Shares(alone, heavy_alone, *both)
    say(f"{NAME}: light {made.light}, alone {made.light_alone}; heavy {made.heavy}, alone {made.heavy_alone}")
    return made


async def one_at_a_time(callers: Callers, source: Iterator[Request], seconds: float) -> Share:
    """Measure the light caller."""
    return shared(LIGHT, await callers.probe(source, PROBE_GAP, seconds), seconds)


def shared(caller: str, calls: Sequence[Call], seconds: float) -> Share:
    """Return how the caller of these calls has fared."""
    answered = [call for call in calls if call.status == "OK"]
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
