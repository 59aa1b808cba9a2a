"""The course of a run: all contenders start, then take turns, round after round, on each workload."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import figures, models, workloads
from benchmarks.contenders import REFERENCE, Contender
from benchmarks.driver import Failed
from benchmarks.entrants import Entrant, Place
from benchmarks.models import ModelSpec
from benchmarks.results import Bulk, Calls, LeftOut, Mixed, ModelResults, Quality
from benchmarks.workloads import Sizes, Workload

BULK = ("lognormal", "tokens-128", "tokens-512")
CONCURRENCIES = (1, 8, 64)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int
    sizes: Sizes  # for a model like all-MiniLM-L6-v2
    tuning: int  # ways of feeding a peer that are tried
    mixed_seconds: float
    interactive_rate: float  # calls a second beside a stream


class Run:
    """One checkpoint."""

    def __init__(
        self, spec: ModelSpec, contenders: Sequence[Contender], plan: Plan, place: Callable[[Path, Path, Path], Place]
    ) -> None:
        self.spec, self.contenders, self.plan, self.place = spec, contenders, plan, place
        self.entrants: list[Entrant] = []

    def measure(self, cache: Path) -> ModelResults:
        """All of it, on one checkpoint."""
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder = Path(name)
            stack.callback(self._close)
            directory = models.directory(self.spec, cache)
            config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
            shape = {key: config[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size")}
            self.results = ModelResults(self.spec.name, self.spec.real, shape)
            self.results.order = [contender.name for contender in self.contenders]
            sizes = self.plan.sizes.times(1 / self.spec.cost)
            self.workloads = workloads.make(sizes, models.token_counter(directory))
            calibration = self.workloads["calibration"].save(folder)
            self.at = self.place(directory, cache / "made" / self.spec.name, calibration)
            self._start()
            for number in range(self.plan.rounds):
                say(f"{self.spec.name}: round {number + 1} of {self.plan.rounds}")
                self._round(number)
            self._compare(folder)
            self.results.memory = {each.contender.name: each.memory() for each in self.entrants}
            return self.results

    def _start(self) -> None:
        """Start all, as many at a time as there are cores; what is timed is done alone, after that."""
        with ThreadPoolExecutor(self.at.cores) as pool:
            starting = [(contender, pool.submit(Entrant, contender, self.at)) for contender in self.contenders]
        for contender, started in starting:
            try:
                self.entrants.append(started.result())
            except Failed as failed:
                self._leave_out(contender, failed)
        self._each(self._prepare, lambda contender: True)

    def _prepare(self, entrant: Entrant) -> None:
        """Give it the texts, warm it up, and find how to feed it."""
        entrant.take([self.workloads[name] for name in (*BULK, "single", "quality")])
        for name in BULK if entrant.contender.bulk else ():
            entrant.take([sample(self.workloads[name])])
            entrant.tune(self.workloads[name], self.plan.tuning)
        entrant.settle()
        entrant.take([head(self.workloads["single"], 8, "warm-up")])
        entrant.unary("warm-up", 1)
        self.results.versions[entrant.contender.name] = entrant.versions
        say(f"{self.spec.name}: {entrant.contender.name} is ready")

    def _round(self, number: int) -> None:
        for name in BULK:
            self._each(lambda each, name=name: self._bulk(each, name), lambda contender: contender.bulk)  # type: ignore[misc]
        for concurrency in CONCURRENCIES:
            self._each(
                lambda each, concurrency=concurrency: self._calls(each, concurrency),  # type: ignore[misc]
                lambda contender, concurrency=concurrency: contender.calls or concurrency == 1,  # type: ignore[misc]
            )
        self._each(lambda each: self._mixed(each, number), lambda contender: contender.mixed)

    def _each(self, measure: Callable[[Entrant], None], taking_part: Callable[[Contender], bool]) -> None:
        for entrant in [each for each in self.entrants if taking_part(each.contender)]:
            try:
                measure(entrant)
            except Failed as failed:
                self._leave_out(entrant.contender, failed)

    def _bulk(self, entrant: Entrant, name: str) -> None:
        contender, workload, choice = entrant.contender.name, self.workloads[name], entrant.choice[name]
        seconds = entrant.bulk(name, choice)
        found = self.results.bulk_of(contender, name)
        if found is None:
            found = Bulk(contender, name, len(workload.texts), workload.total_tokens, choice)
            self.results.bulk.append(found)
        found.seconds.append(seconds)

    def _calls(self, entrant: Entrant, concurrency: int) -> None:
        name = entrant.contender.name
        latencies, seconds = entrant.unary("single" if concurrency == 1 else "lognormal", concurrency)
        found = self.results.calls_of(name, concurrency)
        if found is None:
            found = Calls(name, concurrency)
            self.results.calls.append(found)
        found.latencies += latencies
        found.seconds.append(seconds)

    def _mixed(self, entrant: Entrant, number: int) -> None:
        name, plan = entrant.contender.name, self.plan
        alone = entrant.saturate("lognormal", plan.mixed_seconds, 0.0, number)[0]
        rate, latencies, batches = entrant.saturate("lognormal", plan.mixed_seconds, plan.interactive_rate, number)
        found = next((each for each in self.results.mixed if each.contender == name), None)
        if found is None:
            found = Mixed(name, plan.interactive_rate)
            self.results.mixed.append(found)
        found.alone.append(alone)
        found.beside.append(rate)
        found.latencies += latencies
        found.batches.append(figures.spread(batches).median if batches else 0.0)

    def _compare(self, folder: Path) -> None:
        """Vectors with those of the reference, where they mean something."""
        if not self.spec.real:
            return
        say(f"{self.spec.name}: comparing vectors")
        reference = Entrant(REFERENCE, self.at)
        try:
            reference.take([self.workloads["quality"]])
            want = reference.vectors("quality", folder / "want.npy")
        finally:
            reference.close()

        def compare(entrant: Entrant) -> None:
            got = entrant.vectors("quality", folder / "got.npy")
            cosines, ranks = figures.cosines(got, want), figures.rank_correlation(got, want)
            name = entrant.contender.name
            quality = Quality(name, REFERENCE.name, float(cosines.min()), float(cosines.mean()), ranks)
            self.results.quality.append(quality)

        self._each(compare, lambda contender: contender.vectors)

    def _leave_out(self, contender: Contender, failed: Failed) -> None:
        say(f"{self.spec.name}: {contender.name} is left out: {failed}")
        self.results.left_out.append(LeftOut(contender.name, str(failed)))
        for entrant in [each for each in self.entrants if each.contender is contender]:
            self.entrants.remove(entrant)
            entrant.close()

    def _close(self) -> None:
        for entrant in self.entrants:
            entrant.close()


def sample(workload: Workload) -> Workload:
    """A quarter of the texts, every fourth, to try ways of feeding on."""
    return Workload("sample", workload.texts[::4], workload.tokens[::4])


def head(workload: Workload, count: int, name: str) -> Workload:
    """The first few texts, under another name."""
    return Workload(name, workload.texts[:count], workload.tokens[:count])


def say(line: str) -> None:
    """Tell whoever waits."""
    print(line, file=sys.stderr, flush=True)
