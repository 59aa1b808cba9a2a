"""The course of a run: all contenders start, and then take turns on each workload, round after round."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import figures, models, usage, workloads
from benchmarks.contenders import REFERENCE, Contender, Part
from benchmarks.entrants import Entrant, Place
from benchmarks.models import ModelSpec
from benchmarks.processes import Failed
from benchmarks.results import Bulk, Calls, Mixed, ModelResults, Parts, Processor, Quality
from benchmarks.workloads import BULK, Sizes, Workload, every, head

MOST_CALLS = 8192  # in each round, of the calls that are made several at once
CONCURRENCIES: dict[int, tuple[Part, ...]] = {1: ("single",), 8: ("calls",), 64: ("calls", "frontends")}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int
    sizes: Sizes  # for a model like all-MiniLM-L6-v2
    tuning: int  # how many ways of feeding a peer are tried
    mixed_seconds: float  # of calls alone, of streams alone, and of both
    interactive_rate: float  # calls per second beside a stream, to a model like all-MiniLM-L6-v2
    parts: tuple[Part, ...]
    bulk: tuple[str, ...] = BULK  # the workloads in the part of that name
    by_cost: bool = True  # whether a costlier model gets fewer texts
    peer_share: int = 1  # peers get one of this many texts of those workloads, since they take longer
    single_tokens: int = 0  # tokens of a single text; 0 for lognormal lengths


class Run:
    """The run of one checkpoint. `keep` is called with the results so far after each round.

    No round is started that would end after the deadline. `place_of` makes the place for a checkpoint's directory, a
    folder for converted models, and a file with calibration texts.
    """

    def __init__(
        self,
        spec: ModelSpec,
        contenders: Sequence[Contender],
        plan: Plan,
        place_of: Callable[[Path, Path, Path], Place],
        keep: Callable[[ModelResults], None] = lambda results: None,
        deadline: float = math.inf,
    ) -> None:
        self.spec, self.contenders, self.plan, self._place_of = spec, contenders, plan, place_of
        self.keep, self.deadline = keep, deadline
        self.entrants: list[Entrant] = []

    def measure(self, cache: Path) -> ModelResults:
        """Measure all contenders, and return the results."""
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder = Path(name)
            stack.callback(self._close)
            directory = models.directory(self.spec, cache)
            config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
            shape = {key: config[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size")}
            self.results = ModelResults(self.spec.name, self.spec.real, shape)
            self.results.order = [contender.name for contender in self.contenders]
            self.workloads = self._make_workloads(directory)
            calibration = self.workloads["calibration"].save(folder)
            self.place = self._place_of(directory, cache / "made" / self.spec.name, calibration)
            with self._timed("starting"):
                self._start()
            with self._timed("trying how to feed"):
                self._each(self._prepare, lambda contender: True)
            self._rounds()
            with self._timed("quality"):
                self._compare(folder)
            self.results.memory = {each.contender.name: each.memory() for each in self.entrants}
            self.keep(self.results)
            return self.results

    def _make_workloads(self, directory: Path) -> dict[str, Workload]:
        """Return all workloads, including those for single calls."""
        with self._timed("making texts"):
            sizes = self.plan.sizes.at_cost(self.spec.cost) if self.plan.by_cost else self.plan.sizes
            if {"single", "quality"}.issuperset(self.plan.parts):  # without any bulk workload
                sizes = replace(sizes.times(0), single=sizes.single)
            made = workloads.make(sizes, models.token_counter(directory), self.plan.single_tokens)
            return made | {"calls": head(made["lognormal"], MOST_CALLS, "calls")}

    def _rounds(self) -> None:
        """Run the rounds of the plan, or as many as there is time for, but at least one."""
        for number in range(self.plan.rounds):
            start = time.monotonic()
            say(f"{self.spec.name}: round {number + 1} of {self.plan.rounds}")
            self._round(number)
            self.keep(self.results)
            if 2 * time.monotonic() - start > self.deadline:  # another round would end after it
                say(f"{self.spec.name}: that was the last round that there was time for")
                return

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        """Add the time of the body to that of a part of the run."""
        start = time.monotonic()
        yield
        self.results.took[part] = self.results.took.get(part, 0.0) + time.monotonic() - start

    def _takes_part(self, contender: Contender, *parts: Part) -> bool:
        """Return whether a contender is measured in one of these parts in this run."""
        return any(part in contender.parts and part in self.plan.parts for part in parts)

    def bulk_workloads(self, contender: Contender) -> tuple[str, ...]:
        """Return the names of the bulk workloads on which a contender is measured."""
        parts: dict[Part, tuple[str, ...]] = {"bulk": self.plan.bulk, "batch": BULK[1:2], "frontends": BULK[:1]}
        asked = {name for part, names in parts.items() if self._takes_part(contender, part) for name in names}
        return tuple(name for name in BULK if name in asked)

    def workload_for(self, contender: Contender, name: str) -> Workload:
        """Return the workload as a contender gets it: a peer may get a share of a bulk workload."""
        share = self.plan.peer_share if contender.peer and name in BULK else 1
        return every(self.workloads[name], share)

    def _give(self, entrant: Entrant) -> None:
        """Give a contender all texts on which it is measured."""
        contender = entrant.contender
        many = {*self.bulk_workloads(contender), *(BULK[:1] if self._takes_part(contender, "mixed") else ())}
        entrant.take([self.workload_for(contender, name) for name in BULK if name in many])
        parts: dict[str, tuple[Part, ...]] = {"calls": ("calls", "frontends"), "quality": ("quality",)}
        single = ["single", *(name for name, asking in parts.items() if self._takes_part(contender, *asking))]
        entrant.take_single([self.workloads[name] for name in single])

    def _start(self) -> None:
        """Start all contenders, as many at a time as there are cores; measuring begins after that."""
        with ThreadPoolExecutor(self.place.cores) as pool:
            starting = [(contender, pool.submit(Entrant, contender, self.place)) for contender in self.contenders]
        for contender, started in starting:
            try:
                self.entrants.append(started.result())
            except Failed as failed:
                self._leave_out(contender, failed)

    def _prepare(self, entrant: Entrant) -> None:
        """Give a contender its texts, warm it up, and find the fastest way to feed it."""
        self._give(entrant)
        for name in self.bulk_workloads(entrant.contender):
            workload = self.workload_for(entrant.contender, name)
            entrant.take([sample(workload)])
            entrant.tune(workload, self.plan.tuning)
        entrant.settle()
        entrant.take_single([head(self.workloads["single"], 8, "warm-up")])
        entrant.unary("warm-up", 1)
        self.results.versions[entrant.contender.name] = entrant.versions
        say(f"{self.spec.name}: {entrant.contender.name} is ready")

    def _round(self, number: int) -> None:
        for name in BULK:
            with self._timed(f"many texts, {name}"):
                self._each(partial(self._bulk, name=name), lambda each, name=name: name in self.bulk_workloads(each))  # type: ignore[misc]
        for concurrency, parts in CONCURRENCIES.items():
            with self._timed(f"one text a call, {concurrency} at once"):
                measure = partial(self._calls, concurrency=concurrency)
                self._each(measure, lambda contender, parts=parts: self._takes_part(contender, *parts))  # type: ignore[misc]
        with self._timed("calls beside streams"):
            self._each(partial(self._mixed, number=number), lambda contender: self._takes_part(contender, "mixed"))

    def _each(self, measure: Callable[[Entrant], None], taking_part: Callable[[Contender], bool]) -> None:
        for entrant in [each for each in self.entrants if taking_part(each.contender)]:
            try:
                measure(entrant)
            except Failed as failed:
                self._leave_out(entrant.contender, failed)

    def _bulk(self, entrant: Entrant, name: str) -> None:
        contender, choice = entrant.contender.name, entrant.choice[name]
        workload = self.workload_for(entrant.contender, name)
        before = entrant.processor() if entrant.server else {}
        seconds = entrant.bulk(name, choice)
        if entrant.server and name == BULK[0]:
            self._processor(contender, len(workload.texts), usage.spent(before, entrant.processor()))
        new = Bulk(len(workload.texts), workload.total_tokens, choice)
        self.results.bulk.setdefault(name, {}).setdefault(contender, new).seconds.append(seconds)

    def _processor(self, contender: str, texts: int, seconds: dict[str, float]) -> None:
        found = self.results.processor.setdefault(contender, Processor())
        found.texts += texts
        found.seconds = {role: found.seconds.get(role, 0.0) + taken for role, taken in seconds.items()}

    def _calls(self, entrant: Entrant, concurrency: int) -> None:
        latencies, seconds = entrant.unary("single" if concurrency == 1 else "calls", concurrency)
        found = self.results.calls.setdefault(concurrency, {}).setdefault(entrant.contender.name, Calls())
        found.latencies += latencies
        found.seconds.append(seconds)

    def _mixed(self, entrant: Entrant, number: int) -> None:
        """Measure calls alone, streams alone, and both."""
        length = self.plan.mixed_seconds
        rate = self.plan.interactive_rate / max(1.0, self.spec.cost)
        idle, idle_parts = entrant.paced(length, rate, number)
        alone = entrant.stream("lognormal", length)
        busy: list[tuple[list[float], list[Parts]]] = []
        beside = entrant.stream("lognormal", length, lambda: busy.append(entrant.paced(length, rate, number)))
        found = self.results.mixed.setdefault(entrant.contender.name, Mixed(rate))
        found.alone.append(alone.rate)
        found.beside.append(beside.rate)
        found.alone_processor.append(alone.per_processor_second(length))
        found.beside_processor.append(beside.per_processor_second(length))
        found.batches += [figures.spread(alone.batches).median] if alone.batches else []
        found.idle += idle
        found.idle_parts += idle_parts
        found.latencies += busy[0][0]
        found.parts += busy[0][1]

    def _compare(self, folder: Path) -> None:
        """Compare the vectors of all contenders with those of the reference, if the weights are trained."""
        if not self.spec.real or not any(self._takes_part(each.contender, "quality") for each in self.entrants):
            return
        say(f"{self.spec.name}: comparing vectors")
        reference = Entrant(REFERENCE, self.place)
        try:
            reference.take_single([self.workloads["quality"]])
            want = reference.vectors("quality", folder / "want.npy")
        finally:
            reference.close()

        def compare(entrant: Entrant) -> None:
            got = entrant.vectors("quality", folder / "got.npy")
            cosines, ranks = figures.cosines(got, want), figures.rank_correlation(got, want)
            quality = Quality(float(cosines.min()), float(cosines.mean()), ranks)
            self.results.quality[entrant.contender.name] = quality

        self._each(compare, lambda contender: self._takes_part(contender, "quality"))

    def _leave_out(self, contender: Contender, failed: Failed) -> None:
        say(f"{self.spec.name}: {contender.name} is left out: {failed}")
        self.results.left_out[contender.name] = str(failed)
        for entrant in [each for each in self.entrants if each.contender is contender]:
            self.entrants.remove(entrant)
            entrant.close()

    def _close(self) -> None:
        for entrant in self.entrants:
            entrant.close()


def sample(workload: Workload) -> Workload:
    """Return every fourth text, to try ways of feeding with."""
    return replace(every(workload, 4), name="sample")


def say(line: str) -> None:
    """Print a line about the progress on standard error."""
    print(line, file=sys.stderr, flush=True)
