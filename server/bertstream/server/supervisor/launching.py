"""Decides which processes serve a compiled model: how many workers, on which devices and cores, with what settings."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgspec import convert

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.settings import ModelSettings
from bertstream.server.supervisor.quota import usable_cores
from bertstream.server.supervisor.sources import ModelChoice
from bertstream.workers.compile.compiling import CompiledModel
from bertstream.workers.measuring.snapshots import LastSnapshot
from bertstream.workers.native import processor
from bertstream.workers.process.child import ChildSpec
from bertstream.workers.process.settings import WorkerSettings
from bertstream.workers.programs.description import ModelDescription
from bertstream.workers.serving import cores as shared_cores
from bertstream.workers.serving.cores import SLOTS, Share

BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}  # of a batch, by device, where no option says otherwise
# Cores for each frontend where the server chooses; with models on GPUs the cores have nothing else to do.
_CORES_OF_FRONTEND = {"cpu": 4, "cuda": 2}
_MOST_FRONTENDS = 8
_MOST_THREADS = 8  # of a worker that takes idle cores; one text has too little work for more
# About a millisecond in place of ten: threads on idle cores should soon leave them to others, but not within a batch.
_SPINS = "20000"
# Raised so that glibc keeps what a batch frees, rather than returning it and faulting it in again with the next.
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
# A frontend keeps less: enough for the messages of a stream, of about 1 MiB each. It gives the rest back, which glibc
# would not do, as it raises these bounds by itself (docs/decisions/0032-spine-of-the-server.md).
FRONTEND_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
    "MALLOC_TOP_PAD_": str(1 << 20),
}


@dataclass(frozen=True, slots=True)
class Watch:
    """What is told of the workers of a model: their deaths, with the cause, and their last words."""

    died: Callable[[str, str], None] = lambda model, cause: None
    told: Callable[[str, LastSnapshot], None] = lambda worker, last: None


NO_WATCH = Watch()


@dataclass(frozen=True, slots=True)
class Launch:
    """One version of a model, with all decisions on its workers."""

    choice: ModelChoice
    compiled: CompiledModel
    description: ModelDescription
    serial: int  # in this run of the server
    devices: tuple[str, ...]  # of each worker: "cpu", "cuda:0"
    threads: int  # of each worker
    folder: Path  # of sockets
    frontends: int = 1  # how many send work to each worker
    cores: tuple[tuple[int, ...], ...] = ()  # the cores that each worker is pinned to; empty: not pinned
    shares: tuple[Share, ...] = ()  # of the cores, one for each worker on the CPU; empty on a single core

    @property
    def name(self) -> str:
        return self.choice.name

    @property
    def workers(self) -> int:
        return len(self.devices)

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch, in which at least one text of the greatest length must fit."""
        return max(self.choice.batch_tokens or BATCH_TOKENS[self.compiled.device], self.description.max_tokens)

    @property
    def slowness(self) -> str:
        """Why its precision, int8, takes longer than float32 on this processor; empty where it does not."""
        if self.compiled.dtype != "int8":
            return ""
        if not self.description.native_operators:
            return "slower here than float32, without native operators"
        plain = self.compiled.cpu_instructions == processor.PORTABLE
        return "slower here than float32, without vectors of bytes" if plain else ""

    @property
    def settings(self) -> ModelSettings:
        """The model's settings for frontends."""
        sockets = tuple(str(self._socket(number)) for number in range(self.workers))
        choice = self.choice
        return ModelSettings(
            choice.name,
            self.compiled.directory,
            sockets,
            choice.queue_tokens,
            choice.max_length,
            self.serial,
            self.compiled.cpu_instructions,
        )

    def same_as(self, other: Launch) -> bool:
        """Tell whether the other one has the same answers and the same speed."""
        return (self.choice, self.compiled, self.workers) == (other.choice, other.compiled, other.workers)

    def specs(self, config: ServeConfig, watch: Watch = Watch()) -> list[ChildSpec]:
        """Return the specifications of its worker processes, which are watched."""
        return [self._spec(config, number, watch) for number in range(self.workers)]

    def remove_files(self) -> None:
        """Remove the files that its workers left in the folder; to be called once they are gone."""
        for path in self.folder.glob(f"{self.serial}-*"):
            path.unlink(missing_ok=True)
        if self.shares:
            shared_cores.clear(Path(self.shares[0].path), [share.slot for share in self.shares])

    def _spec(self, config: ServeConfig, number: int, watch: Watch) -> ChildSpec:
        def settings(life: int) -> WorkerSettings:
            self._clear(number, life)
            return self._settings(config, number, life)

        environment = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads), **_MALLOC}
        environment |= processor.environment()
        if any(share.most for share in self.shares):
            environment["GOMP_SPINCOUNT"] = _SPINS
        return ChildSpec(
            self._worker(number),
            "bertstream.workers.process",
            settings,
            environment,
            computing_seconds=config.batch_seconds,
            on_progress=lambda last: watch.told(self._worker(number), convert(last, LastSnapshot)),
            on_death=partial(watch.died, self.name),
        )

    def _clear(self, number: int, life: int) -> None:
        """Remove the files of former lives, but for the last one's record, which frontends still read."""
        self._socket(number).unlink(missing_ok=True)
        self._record(number, life - 2).unlink(missing_ok=True)

    def _settings(self, config: ServeConfig, number: int, life: int) -> WorkerSettings:
        return WorkerSettings(
            name=self._worker(number),
            model=self.name,
            directory=self.compiled.directory,
            operators=self.compiled.operators,
            device=self.devices[number],
            threads=self.threads,
            socket=str(self._socket(number)),
            running=str(self._record(number, life)),
            batch_tokens=self.batch_tokens,
            queue_tokens=self.frontends * self._admitted_tokens(config),
            queue_seconds=config.queue_seconds,
            session_bytes=config.session_bytes,
            log_level=config.log_level,
            cache_tokens=self._cache_tokens(config),
            cores=self.cores[number] if self.cores else (),
            folder=str(self.folder),
            share=self.shares[number] if self.shares else None,
        )

    def _admitted_tokens(self, config: ServeConfig) -> int:
        """Return the most tokens that one frontend admits: its bound, and one call that alone exceeds the bound."""
        return self.choice.queue_tokens + config.max_texts * self.description.max_tokens

    def _cache_tokens(self, config: ServeConfig) -> int:
        """Return the tokens to cache: at least one sequence of the greatest length, and the text that it comes from."""
        model = self.description
        if model.generation is None:
            return 0
        source = model.max_tokens if "sequence_to_sequence" in model.heads else 0
        return max(config.cache_tokens, source + model.generation.max_tokens)

    def _worker(self, number: int) -> str:
        return f"worker-{self.serial}-{number}"

    def _record(self, number: int, life: int) -> Path:
        """Return the file in which a worker says what it computes."""
        return self._socket(number).with_suffix(f".running.{life}")

    def _socket(self, number: int) -> Path:
        return self.folder / f"{self.serial}-{number}.socket"


def workers_and_threads(optimize: str, cores: int, workers: int = 0, threads: int = 0) -> tuple[int, int]:
    """Return how many workers, and threads of each, serve a model on this many cores.

    A number other than 0 wins over `optimize`, and the other number then fills the cores. "auto" is "throughput":
    docs/decisions/0015 has both measured.
    """
    if not workers and not threads:
        threads = cores if optimize == "latency" else 1
    workers = workers or max(1, cores // threads)
    return workers, threads or max(1, cores // workers)


def is_adaptive(choice: ModelChoice) -> bool:
    """Tell whether the workers' threads adapt to how many cores are idle: where no option says otherwise."""
    return choice.optimize == "auto" and not choice.workers and not choice.threads


def pinned(free: Sequence[int], workers: int, threads: int) -> tuple[tuple[int, ...], ...]:
    """Return cores for each worker alone, one a thread; an empty tuple where there are too few for all workers."""
    if workers * threads > len(free):
        return ()
    return tuple(tuple(free[start : start + threads]) for start in range(0, workers * threads, threads))


class Launcher:
    """Decides on frontends, workers, devices, threads and cores for one machine."""

    def __init__(self, config: ServeConfig, folder: Path, gpus: int, cores: int = 0) -> None:
        """Take the folder of sockets, the number of GPUs, and that of cores to fill; 0: all that this process may."""
        self._usable = sorted(os.sched_getaffinity(0))
        usable = usable_cores(len(self._usable))
        self.cores = min(cores, usable) if cores else usable
        self._config = config
        self._folder = folder
        self._gpus = gpus
        self._serials = itertools.count()
        self._slots = itertools.count()

    @property
    def frontends(self) -> int:
        """The number of processes that serve gRPC."""
        cores = _CORES_OF_FRONTEND["cuda" if self._gpus and self._config.device != "cpu" else "cpu"]
        return self._config.frontends or max(1, min(self.cores // cores, _MOST_FRONTENDS))

    @property
    def admin_sockets(self) -> tuple[str, ...]:
        """The Unix sockets on which frontends take calls of the admin port's pages; none without that port."""
        if not self._config.has_admin:
            return ()
        return tuple(str(self._folder / f"frontend-{number}.socket") for number in range(self.frontends))

    @property
    def tokenizer_threads(self) -> int:
        """The number of threads that tokenize in each frontend."""
        return -(-(self._config.tokenizer_threads or self.cores) // self.frontends)

    @property
    def max_load_workers(self) -> int:
        """The most workers that LoadModel may ask for, as each needs a core or a GPU; 0 if it is not allowed."""
        return max(self.cores, self._gpus, self._config.workers) if self._config.may_load else 0

    def launch(self, choice: ModelChoice, compiled: CompiledModel, models: int, beside: Iterable[Launch]) -> Launch:
        """Decide on a version of one of this many models, beside those that run already.

        Raises ConfigError, DescriptionError.
        """
        description = ModelDescription.load(Path(compiled.directory))
        if choice.max_length > description.max_tokens:
            raise ConfigError(
                f"model.{choice.name}.max_length: {choice.max_length} is more than the model's {description.max_tokens}"
            )
        beside = tuple(beside)
        used = Counter(device for each in beside for device in each.devices)
        workers, threads = self._workers_and_threads(choice, compiled, models)
        devices = self._devices(choice, compiled, workers, used)
        serial = next(self._serials)
        cores = pinned(self._free(choice, beside), workers, threads) if compiled.device == "cpu" else ()
        shares = self._shares(workers, takes_idle=not cores and is_adaptive(choice)) if compiled.device == "cpu" else ()
        return Launch(
            choice, compiled, description, serial, devices, threads, self._folder, self.frontends, cores, shares
        )

    def _shares(self, workers: int, *, takes_idle: bool) -> tuple[Share, ...]:
        """Return each worker's share of all cores, whatever model uses them; empty where there is one core."""
        if self.cores == 1:
            return ()
        path = self._folder / "cores"
        if not path.exists():
            shared_cores.make(path)
        most = min(self.cores, _MOST_THREADS) if takes_idle else 0
        return tuple(Share(str(path), next(self._slots) % SLOTS, self.cores, most) for _ in range(workers))

    def _free(self, choice: ModelChoice, beside: Iterable[Launch]) -> list[int]:
        """Return the cores that a model may be pinned to: no other model's, but those of the version it replaces."""
        others = [each for each in beside if each.name != choice.name]
        taken = {core for each in others for cores in each.cores for core in cores}
        return [core for core in self._usable if core not in taken] if self._config.pin else []

    def _workers_and_threads(self, choice: ModelChoice, compiled: CompiledModel, models: int) -> tuple[int, int]:
        workers, cores = choice.workers, max(1, self.cores // models)
        if not workers and compiled.device == "cuda":
            workers = 1 if ":" in choice.device else self._gpus
        return workers_and_threads(choice.optimize, cores, workers, choice.threads)

    def _devices(
        self, choice: ModelChoice, compiled: CompiledModel, workers: int, used: Counter[str]
    ) -> tuple[str, ...]:
        """Return a device for each worker: the one in the options, or in turn the GPU that has the fewest workers."""
        if compiled.device != "cuda":
            return ("cpu",) * workers
        if ":" in choice.device:
            return (choice.device,) * workers
        gpus = [f"cuda:{number}" for number in range(self._gpus)]
        chosen: list[str] = []
        for _ in range(workers):
            chosen.append(min(gpus, key=lambda gpu: used[gpu]))
            used[chosen[-1]] += 1
        return tuple(chosen)
