"""Running contenders: their processes, and the measurements that can be asked of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import usage
from benchmarks.contenders import Contender, Environment, precision
from benchmarks.figures import Vectors
from benchmarks.peers import Choice, Settings
from benchmarks.processes import PATIENT, Driver, Failed, Patience, Server, together
from benchmarks.workloads import MAX_LENGTH, Workload

LEAD_SECONDS = 2.0  # the time that a stream has to fill the server before measuring starts


@dataclass(frozen=True, slots=True)
class Place:
    """The folders, devices and environments with which contenders run."""

    directory: Path  # the checkpoint
    work: Path  # converted models, kept between runs
    compiled: Path  # bertstream's cache
    device: str
    cores: int
    clients: int  # processes that send to a bertstream server in bulk
    flags: tuple[str, ...]  # of every bertstream server, besides the contender's own
    pythons: Mapping[Environment, Path]
    calibration: Path
    patience: Patience = PATIENT


@dataclass(frozen=True, slots=True)
class Stream:
    """The measurements of streams that ran for a while."""

    rate: float  # texts/s
    batches: list[float]  # seconds that each batch computed
    processor: dict[str, float]  # processor seconds by role

    def per_processor_second(self, seconds: float) -> float:
        """Return the texts per processor second of the server, for streams that ran for `seconds`."""
        taken = sum(spent for role, spent in self.processor.items() if role != "client")
        return self.rate * seconds / taken if taken else 0.0


class Entrant:
    """A running contender: its server and its processes, which end with `close`. All methods may raise Failed."""

    def __init__(self, contender: Contender, place: Place) -> None:
        self.contender = contender
        self.place = place
        self.server: Server | None = None
        self.drivers: list[Driver] = []
        self.choice: dict[str, Choice] = {}  # by workload
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        options = dict(self.contender.options)
        if self.contender.serve is not None:
            dtype = ("--dtype", self.contender.precision) if self.contender.precision else ()
            flags = (*dtype, *self.contender.serve, "--device", self.place.device, *self.place.flags)
            self.server = Server(self.place.directory, flags, self.place.compiled, self.place.patience)
            options["address"] = self.server.address
        python = self.place.pythons[self.contender.environment]
        if self.contender.environment == "infinity":
            options["python"], python = str(python), Path(sys.executable)
        if not python.is_file():
            raise Failed("its environment is not installed; run `make bench`, or give --peers here")
        settings, extra = self._settings(options), {"BERTSTREAM_CACHE": str(self.place.compiled)}
        for _ in range(self._processes()):
            self.drivers.append(Driver(python, settings, extra, self.place.patience))

    def _settings(self, options: dict[str, str]) -> Settings:
        place = self.place
        return Settings(
            adapter=self.contender.adapter,
            directory=str(place.directory),
            work=str(place.work),
            precision=precision(self.contender, place.device),
            device=place.device,
            threads=1 if self._spread else place.cores,
            max_length=MAX_LENGTH,
            calibration=str(place.calibration),
            options=options,
        )

    @property
    def _spread(self) -> bool:
        return self.contender.a_core_each and self.place.device == "cpu"

    def _processes(self) -> int:
        if self.contender.serve is not None:
            clients = max(self.place.clients, self.contender.clients) if self._streams else 0
            return clients + 1  # one more process for calls, also while the others stream
        return self.place.cores if self._spread else 1

    @property
    def _streams(self) -> bool:
        return self.contender.parts != ("single",)

    @property
    def crowd(self) -> list[Driver]:
        """The processes that share the texts of bulk workloads."""
        return self.drivers[:-1] if self.server and len(self.drivers) > 1 else self.drivers

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packages that compute."""
        return self.drivers[0].versions

    def take(self, workloads: Sequence[Workload]) -> None:
        """Distribute the texts of bulk workloads over the processes, so that each gets texts of all lengths."""
        for workload in workloads:
            order = sorted(range(len(workload.texts)), key=lambda text: -workload.tokens[text])
            for number, driver in enumerate(self.crowd):
                part = sorted(order[number :: len(self.crowd)])
                driver.ask("texts", name=workload.name, texts=[workload.texts[text] for text in part])

    def take_single(self, workloads: Sequence[Workload]) -> None:
        """Give the texts of single calls to the process that makes them."""
        for workload in workloads:
            self.drivers[-1].ask("texts", name=workload.name, texts=workload.texts)

    def tune(self, workload: Workload, limit: int) -> Choice:
        """Find the fastest way to feed the contender with the texts sent as `sample`, which also warms it up."""
        choices = self.drivers[0].choices[:limit]
        self.bulk("sample", choices[0])
        seconds = [self.bulk("sample", choice) for choice in choices]
        self.choice[workload.name] = choices[int(np.argmin(seconds))]
        return self.choice[workload.name]

    def settle(self) -> None:
        """Drop everything that the choices do not need."""
        for driver in self.drivers:
            driver.ask("settle", choices=[asdict(choice) for choice in self.choice.values()])

    def bulk(self, name: str, choice: Choice) -> float:
        """Encode all texts, and return the seconds from the first process's start to the last one's end."""
        arguments = {"name": name, "choice": asdict(choice)}
        answers = together(self.crowd, "bulk", arguments)
        return float(max(each["end"] for each in answers) - min(each["start"] for each in answers))

    def unary(self, name: str, concurrency: int) -> tuple[list[float], float]:
        """Make a call for each text, and return the latencies, and the seconds for all."""
        answer = self.drivers[-1].ask("unary", name=name, concurrency=concurrency)
        return list(answer["latencies"]), float(answer["seconds"])

    def paced(self, seconds: float, rate: float, seed: int) -> tuple[list[float], list[dict[str, float]]]:
        """Make calls at random times with this rate per second, and return the latencies, and the parts of each."""
        answer = self.drivers[-1].ask("paced", name="single", seconds=seconds, rate=rate, seed=seed)
        return list(answer["latencies"]), list(answer["parts"])

    def stream(self, name: str, seconds: float, beside: Callable[[], object] = lambda: None) -> Stream:
        """Saturate the server with streams for `seconds`, once they have filled it; `beside` runs in that time."""
        for driver in self.crowd:
            driver.send("bulk_for", name=name, lead=LEAD_SECONDS, seconds=seconds)
        try:
            time.sleep(LEAD_SECONDS)
            end, before = time.monotonic() + seconds, self.processor()
            beside()
            time.sleep(max(0.0, end - time.monotonic()))
            taken = usage.spent(before, self.processor())
        finally:
            answers = [
                driver.answer() for driver in self.crowd
            ]  # so that none is taken for the answer to a later command
        batches = [compute for answer in answers for compute in answer["compute"]]
        return Stream(sum(answer["rate"] for answer in answers), batches, taken)

    def processor(self) -> dict[str, float]:
        """Return the processor seconds of the server's processes and its clients so far, by role; for servers only."""
        assert self.server is not None
        return usage.processor(self.server.pid, [driver.pid for driver in self.drivers])

    def vectors(self, name: str, path: Path) -> Vectors:
        """Return the vectors [n, d] of all texts."""
        self.drivers[-1].ask("vectors", name=name, choice=asdict(self.drivers[-1].choices[0]), path=str(path))
        vectors: Vectors = np.load(path)
        return vectors

    def memory(self) -> int:
        """Return the bytes of memory of the server, or of the processes that compute if there is no server."""
        return usage.memory([self.server.pid] if self.server else [driver.pid for driver in self.drivers])

    def close(self) -> None:
        """End all processes."""
        for driver in self.drivers:
            driver.close()
        if self.server is not None:
            self.server.close()
