"""Gathers what all processes have counted: once a second, and whenever the admin process asks.

A process that ends takes along what it has counted since it was last asked, a second's counts at most. What it had
told by then stays in the sums, so that no counter ever goes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from msgspec import ValidationError, convert

from bertstream.server.messages import Gathered, GatheredModel, GatheredProcess, ProcessKind
from bertstream.server.supervisor.members import Life, Member
from bertstream.server.supervisor.processes import used_by
from bertstream.workers.measuring import catalog
from bertstream.workers.measuring import supervisor_metrics as metrics
from bertstream.workers.measuring.instruments import Registry, reading
from bertstream.workers.measuring.snapshots import LastSnapshot, Snapshot, TakeSnapshot, Value, merged
from bertstream.workers.process.child import ChildFailed
from bertstream.workers.process.control import NoAnswer

GATHER_SECONDS = 1.0  # between snapshots that nobody asked for
ANSWER_SECONDS = 1.0  # the time that a process has to answer; after that its last snapshot counts


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What does not change while the server runs."""

    address: str
    cores: int
    version: str = field(default_factory=lambda: version("bertstream"))


class Lives:
    """The last snapshot of each process, and the sums of those that have ended."""

    def __init__(self) -> None:
        self._past = Snapshot()
        self._last: dict[Life, Snapshot] = {}
        self._ended: set[Life] = set()  # those that are alive, or are being asked, but have said their last words

    def ask(self, lives: Iterable[Life]) -> None:
        """Note who is asked now, and may end before all have answered."""
        for life in lives:
            self._last.setdefault(life, Snapshot())

    def take(self, alive: Iterable[Life], newest: Mapping[Life, Snapshot]) -> None:
        """Take the snapshots of those that answered; of those not alive any more, what they had counted stays."""
        there = set(alive)
        self._last |= {life: snapshot for life, snapshot in newest.items() if life not in self._ended}
        self._ended &= there
        for life in self._last.keys() - there:
            self._keep(self._last.pop(life))

    def end(self, name: str, last: Snapshot) -> None:
        """Take the last words of a process, in place of what its newest life has told before."""
        life = max((life for life in self._last if life[0] == name), default=None)
        if life is not None:
            del self._last[life]
            self._ended.add(life)
        self._keep(last)

    def _keep(self, snapshot: Snapshot) -> None:
        self._past = merged([self._past, catalog.GAUGES.without(snapshot)], catalog.GAUGES)

    def together(self, own: Snapshot) -> Snapshot:
        """Return what all processes together have counted, with the supervisor's own snapshot."""
        return merged([self._past, *self._last.values(), own], catalog.GAUGES)


class Gathering:
    """All that is counted in the server."""

    def __init__(self, facts: ServerFacts) -> None:
        self.ready = self.draining = False
        self._facts = facts
        self._members: Callable[[], Iterable[Member]] = tuple
        self._models: Callable[[], Iterable[GatheredModel]] = tuple
        self._registry = Registry()
        self._restarts = self._registry.counter(metrics.RESTARTS)
        self._lives = Lives()
        self._started = self._gathered_at = time.monotonic()
        self._torch = _version_of("torch")
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[Gathered] | None = None  # has not begun to ask yet

    def attach(self, members: Callable[[], Iterable[Member]], models: Callable[[], Iterable[GatheredModel]]) -> None:
        """Take functions that return all processes and models that there are."""
        self._members, self._models = members, models

    def died(self, kind: ProcessKind, model: str, cause: str) -> None:
        """Count a process that has ended unasked, and is replaced."""
        self._restarts.of(kind, model, cause).add()

    def told(self, name: str, last: LastSnapshot) -> None:
        """Take what a process that ends has counted in all."""
        self._lives.end(name, last.snapshot)

    async def gather(self) -> Gathered:
        """Return what all processes have counted until now, and how they are.

        All who ask while others' snapshots are gathered share the next ones, so that a process that does not answer
        makes no queue.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._gather())
        return await asyncio.shield(self._next)

    async def _gather(self) -> Gathered:
        async with self._turn:
            self._next = None
            members = list(self._members())
            alive = [each for each in members if each.child.alive]
            self._lives.ask(each.life for each in alive)
            answers = await asyncio.gather(*(_asked(each) for each in alive))
            newest = {each.life: answer for each, answer in zip(alive, answers, strict=True) if answer is not None}
            self._lives.take([each.life for each in alive], newest)
            self._gathered_at = time.monotonic()
            return self._gathered(members)

    async def gather_forever(self) -> None:
        """Gather where nobody has asked for a second, so that processes that end take little along."""
        while True:
            left = self._gathered_at + GATHER_SECONDS - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
            else:
                await self.gather()

    def _gathered(self, members: Iterable[Member]) -> Gathered:
        uptime = time.monotonic() - self._started
        processes = (self._supervisor(uptime), *(_process(each) for each in members))
        models = tuple(self._models())
        ready = self.ready and not self.draining and _all_serve(processes, models)
        own = Snapshot(tuple(self._own(processes, models, uptime, ready)))
        return Gathered(
            time=time.time(),
            uptime_seconds=uptime,
            version=self._facts.version,
            address=self._facts.address,
            cores=self._facts.cores,
            ready=ready,
            draining=self.draining,
            snapshot=self._lives.together(merged([own, self._registry.snapshot()], catalog.GAUGES)),
            processes=processes,
            models=models,
        )

    def _supervisor(self, uptime: float) -> GatheredProcess:
        pid = os.getpid()
        used = used_by(pid)
        return GatheredProcess(
            "supervisor",
            "supervisor",
            pid,
            "ready",
            uptime,
            resident_bytes=used.resident_bytes,
            cpu_seconds=used.cpu_seconds,
        )

    def _own(
        self, processes: Iterable[GatheredProcess], models: Iterable[GatheredModel], uptime: float, ready: bool
    ) -> Iterable[Value]:
        yield reading(metrics.UPTIME, uptime)
        yield reading(metrics.VERSION, 1, self._facts.version, platform.python_version(), self._torch)
        yield reading(metrics.READY, float(ready))
        for model in models:
            yield reading(metrics.WORKERS, model.workers, model.name)
            yield reading(metrics.COMPILE_TIME, model.compile_seconds, model.name)
        for each in processes:
            yield reading(metrics.PROCESSES, float(each.state == "ready"), each.kind, each.model)
            if each.state != "gone":
                yield reading(metrics.PROCESS_MEMORY, each.resident_bytes, each.name)
                yield reading(metrics.PROCESS_CPU, each.cpu_seconds, each.name)


@contextlib.asynccontextmanager
async def gathering_forever(gathering: Gathering, *, wanted: bool) -> AsyncIterator[None]:
    """Gather once a second while the body runs; do nothing where that is not wanted."""
    task = asyncio.create_task(gathering.gather_forever()) if wanted else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


async def _asked(member: Member) -> Snapshot | None:
    """Return a process's snapshot; None where it has none, or does not answer in time."""
    if member.state != "ready" or member.kind not in ("frontend", "worker"):
        return None
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return convert(await member.child.ask(TakeSnapshot()), Snapshot)
    except (TimeoutError, ChildFailed, NoAnswer, ValidationError):
        return None


def _process(member: Member) -> GatheredProcess:
    child, state = member.child, member.state
    used = used_by(child.pid) if state != "gone" else used_by(0)
    return GatheredProcess(
        name=child.spec.name,
        kind=member.kind,
        pid=child.pid,
        state=state,
        uptime_seconds=time.monotonic() - child.started,
        model=member.model,
        restarts=child.life,
        resident_bytes=used.resident_bytes,
        cpu_seconds=used.cpu_seconds,
    )


def _all_serve(processes: Iterable[GatheredProcess], models: Iterable[GatheredModel]) -> bool:
    """Return whether any call can be answered: some frontend is ready, and every model has a worker."""
    frontends = any(each.kind == "frontend" and each.state == "ready" for each in processes)
    return frontends and all(each.workers_alive for each in models)


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
