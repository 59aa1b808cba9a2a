"""The course of duels: both sides start, are warmed up, and take turns."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from benchmarks import models, usage
from benchmarks.contenders import Environment
from benchmarks.duels import plan
from benchmarks.duels.plan import Duel, Item
from benchmarks.duels.results import DuelResult, DuelResults, Side, Start
from benchmarks.entrants import Place
from benchmarks.models import ModelSpec
from benchmarks.peers import Choice, Settings
from benchmarks.processes import Driver, Failed, Server
from benchmarks.rounds import say
from benchmarks.workloads import MAX_LENGTH

OURS, THEIRS = "tasks_client", "transformers_tasks"
SENTENCE = "sentence_transformers_encode"
MEMORY_TEXTS = 64


class Duels:
    """The duels of one shape of checkpoint. `keep` is called with the results so far after each of them."""

    def __init__(
        self,
        model: ModelSpec,
        place: Place,
        cache: Path,
        rounds: int,
        scale: float,
        keep: Callable[[DuelResults], None] = lambda results: None,
    ) -> None:
        self.model, self.place, self.cache, self.rounds, self.scale = model, place, cache, rounds, scale
        self.keep = keep
        self.results = DuelResults()

    def measure(self, parts: Sequence[str]) -> DuelResults:
        """Measure these parts."""
        for duel in plan.chosen(parts):
            say(f"{self.model.name}: {duel.part}, {duel.name}")
            self.results.duels.append(self._fight(duel))
            self.keep(self.results)
        if "start" in parts:
            self._attempt("start", self._starts)
        if "memory" in parts:
            self._attempt("memory", self._memory)
        return self.results

    def _attempt(self, part: str, measure: Callable[[], None]) -> None:
        say(f"{self.model.name}: {part}")
        try:
            measure()
        except Failed as failed:
            self.results.left_out[part] = str(failed)
        self.keep(self.results)

    def _checkpoint(self, duel: Duel) -> Path:
        config = {**plan.SHAPES[self.model.name], **duel.config}
        make = partial(models.random_bert, architecture=duel.architecture, **config)
        name = f"{self.model.name}-{duel.architecture}"
        return models.directory(replace(self.model, name=name, make=make), self.cache)

    def _fight(self, duel: Duel) -> DuelResult:
        directory = self._checkpoint(duel)
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        count = plan.count_of(duel, self.model, self.scale)
        items, tokens = plan.items_of(duel, count, models.token_counter(directory))
        work = plan.amount(duel, count, tokens, config["num_hidden_layers"], config["hidden_size"])
        result = DuelResult(duel.part, duel.name, duel.unit, work)
        try:
            self._turns(duel, directory, items, result)
        except Failed as failed:
            result.why = str(failed)
        return result

    def _turns(self, duel: Duel, directory: Path, items: Sequence[Item], result: DuelResult) -> None:
        with ExitStack() as stack:
            with ThreadPoolExecutor() as pool:  # starting takes longer than most of what is measured
                starting = pool.submit(self._driver, "peers", THEIRS, directory, duel.options)
                stack.callback(close, starting)
                server = stack.enter_context(closing(self._server(directory)))
                address = {**duel.options, "address": server.address}
                ours = stack.enter_context(closing(self._driver("own", OURS, directory, address)))
            theirs = starting.result()
            sides = [(ours, [server.pid, ours.pid], result.ours), (theirs, [theirs.pid], result.theirs)]
            choices = [warmed_up(driver, items) for driver, _, _ in sides]
            for _ in range(self.rounds):
                for (driver, processes, side), choice in zip(sides, choices, strict=True):
                    take_turn(driver, processes, choice, side)

    def _starts(self) -> None:
        """Start servers with and without a compiled model, and the other in a fresh process, in turns."""
        directory = models.directory(self.model, self.cache)
        self._server(directory).close()  # so that operators are there, and the model is in the cache
        for _ in range(self.rounds):
            with tempfile.TemporaryDirectory() as name:
                (Path(name) / "native").symlink_to((self.place.compiled / "native").resolve())
                self._start("bertstream, to compile", partial(self._server, directory, cache=Path(name)))
            self._start("bertstream, compiled", lambda: self._server(directory))
            self._start("sentence-transformers", lambda: self._driver("peers", SENTENCE, directory, {}))

    def _start(self, name: str, start: Callable[[], Server | Driver]) -> None:
        begun = time.monotonic()
        with closing(start()) as started:
            side = self.results.starts.setdefault(name, Start(name))
            side.seconds.append(time.monotonic() - begun)
            side.processor.append(usage.seconds_so_far(started.pid))

    def _memory(self) -> None:
        """Measure servers of several workers, and the other's process, each after the same texts."""
        directory = models.directory(self.model, self.cache)
        texts, _ = plan.items_of(plan.DUELS[1], MEMORY_TEXTS, models.token_counter(directory))
        for workers in plan.WORKERS:
            with closing(self._server(directory, "--workers", str(workers))) as server:
                with closing(self._driver("own", "grpc_client", directory, {"address": server.address})) as driver:
                    warmed_up(driver, texts)
                name = f"bertstream, {workers} worker{'s' if workers > 1 else ''}"
                self.results.memory[name] = usage.memory([server.pid])
        with closing(self._driver("peers", SENTENCE, directory, {})) as driver:
            warmed_up(driver, texts)
            self.results.memory["sentence-transformers, 1 process"] = usage.memory([driver.pid])

    def _server(self, directory: Path, *flags: str, cache: Path | None = None) -> Server:
        place = self.place
        every = ("--device", place.device, *flags, *place.flags)
        return Server(directory, every, cache or place.compiled, place.patience)

    def _driver(self, environment: Environment, adapter: str, directory: Path, options: dict[str, str]) -> Driver:
        place = self.place
        python = place.pythons[environment]
        if not python.is_file():
            raise Failed("its environment is not installed; run `make bench`, or give --peers here")
        settings = Settings(
            adapter, str(directory), str(place.work), "float32", place.device, place.cores, MAX_LENGTH, "", options
        )
        return Driver(python, settings, {"BERTSTREAM_CACHE": str(place.compiled)}, place.patience)


def close(starting: Future[Driver]) -> None:
    """End a process that was started in another thread, unless it did not start."""
    if starting.exception() is None:
        starting.result().close()


def warmed_up(driver: Driver, items: Sequence[Item]) -> Choice:
    """Give a side its items, have it do all with each of its choices, and return the fastest one."""
    driver.ask("texts", name="duel", texts=items)
    seconds = {}
    for number, choice in enumerate(driver.choices):
        answer = driver.ask("bulk", name="duel", choice=asdict(choice))
        seconds[number] = answer["end"] - answer["start"]
    return driver.choices[min(seconds, key=seconds.__getitem__)]


def take_turn(driver: Driver, processes: Sequence[int], choice: Choice, side: Side) -> None:
    """Have a side do all of its items once."""
    before = sum(map(usage.of_tree, processes))
    answer = driver.ask("bulk", name="duel", choice=asdict(choice))
    side.seconds.append(answer["end"] - answer["start"])
    side.processor.append(sum(map(usage.of_tree, processes)) - before)
