"""From a compiled model to the processes that serve it: how many, where, and what each is told."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.settings import ModelSettings
from bertstream.server.supervisor.quota import usable_cores
from bertstream.server.supervisor.sources import ModelChoice
from bertstream.workers.compile.compiling import CompiledModel
from bertstream.workers.process.child import ChildSpec
from bertstream.workers.process.settings import WorkerSettings
from bertstream.workers.programs.description import ModelDescription
from bertstream.workers.serving import cores as shared_cores
from bertstream.workers.serving.cores import SLOTS, Share

BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}
# Where the server chooses. With GPUs the cores have nothing else to do.
_CORES_OF_FRONTEND = {"cpu": 4, "cuda": 2}
_MOST_FRONTENDS = 8
_MOST_THREADS = 8  # of a worker that takes idle cores; one text has too little work for more
# About a millisecond in place of ten: threads of idle cores should soon leave them to others, but not within a batch.
_SPINS = "20000"
# Raised so that glibc keeps what a batch frees, rather than returning it and faulting it in again with the next.
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
# A frontend needs less: what messages of a stream take, of about 1 MiB each. What is more is given back, which glibc
# does not do by its own raising of these bounds (docs/decisions/0032-spine-of-the-server.md).
FRONTEND_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
    "MALLOC_TOP_PAD_": str(1 << 20),
}


@dataclass(frozen=True, slots=True)
class Launch:
    """One version of a model, with all that is decided of its workers."""

    choice: ModelChoice
    compiled: CompiledModel
    description: ModelDescription
    serial: int  # in this run of the server
    devices: tuple[str, ...]  # of each worker: "cpu", "cuda:0"
    threads: int  # of each worker
    folder: Path  # of sockets
    frontends: int = 1  # that send work to each worker
    cores: tuple[tuple[int, ...], ...] = ()  # that each worker stays on; none: they are not pinned
    shares: tuple[Share, ...] = ()  # of the cores, for each worker on the CPU; none where there is one

    @property
    def name(self) -> str:
        return self.choice.name

    @property
    def workers(self) -> int:
        return len(self.devices)

    @property
    def batch_tokens(self) -> int:
        """At least one text of the greatest length must fit."""
        return max(self.choice.batch_tokens or BATCH_TOKENS[self.compiled.device], self.description.max_tokens)

    @property
    def settings(self) -> ModelSettings:
        """What frontends are told."""
        sockets = tuple(str(self._socket(number)) for number in range(self.workers))
        choice = self.choice
        return ModelSettings(
            choice.name, self.compiled.directory, sockets, choice.queue_tokens, choice.max_length, self.serial
        )

    def same_as(self, other: Launch) -> bool:
        """Whether the other one would answer no differently, nor faster."""
        return (self.choice, self.compiled, self.workers) == (other.choice, other.compiled, other.workers)

    def specs(self, config: ServeConfig) -> list[ChildSpec]:
        """Its worker processes."""
        return [self._spec(config, number) for number in range(self.workers)]

    def remove_files(self) -> None:
        """Remove what its workers left in the folder, once they are gone."""
        for path in self.folder.glob(f"{self.serial}-*"):
            path.unlink(missing_ok=True)
        if self.shares:
            shared_cores.clear(Path(self.shares[0].path), [share.slot for share in self.shares])

    def _spec(self, config: ServeConfig, number: int) -> ChildSpec:
        def settings(life: int) -> WorkerSettings:
            self._clear(number, life)
            return self._settings(config, number, life)

        environment = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads), **_MALLOC}
        if any(share.most for share in self.shares):
            environment["GOMP_SPINCOUNT"] = _SPINS
        return ChildSpec(
            self._worker(number),
            "bertstream.workers.process",
            settings,
            environment,
            computing_seconds=config.batch_seconds,
        )

    def _clear(self, number: int, life: int) -> None:
        """Remove what the lives before have left, but for the last one's record, which frontends still read."""
        self._socket(number).unlink(missing_ok=True)
        self._record(number, life - 2).unlink(missing_ok=True)

    def _settings(self, config: ServeConfig, number: int, life: int) -> WorkerSettings:
        return WorkerSettings(
            name=self._worker(number),
            directory=self.compiled.directory,
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
            share=self.shares[number] if self.shares else None,
        )

    def _admitted_tokens(self, config: ServeConfig) -> int:
        """Return what one frontend lets in at most: its bound, and one call that is larger than that on its own."""
        return self.choice.queue_tokens + config.max_texts * self.description.max_tokens

    def _cache_tokens(self, config: ServeConfig) -> int:
        """Return the tokens to keep, at least one sequence of the greatest length and the text that it is made from."""
        its = self.description
        if its.generation is None:
            return 0
        source = its.max_tokens if "sequence_to_sequence" in its.heads else 0
        return max(config.cache_tokens, source + its.generation.max_tokens)

    def _worker(self, number: int) -> str:
        return f"worker-{self.serial}-{number}"

    def _record(self, number: int, life: int) -> Path:
        """Return the file in which a worker says what it computes."""
        return self._socket(number).with_suffix(f".running.{life}")

    def _socket(self, number: int) -> Path:
        return self.folder / f"{self.serial}-{number}.socket"


def workers_and_threads(optimize: str, cores: int, workers: int = 0, threads: int = 0) -> tuple[int, int]:
    """Of a model that has so many cores. What is given, not 0, wins over what to optimize; the other fills the cores.

    "auto" is "throughput": docs/decisions/0015 has both measured.
    """
    if not workers and not threads:
        threads = cores if optimize == "latency" else 1
    workers = workers or max(1, cores // threads)
    return workers, threads or max(1, cores // workers)


def is_adaptive(choice: ModelChoice) -> bool:
    """Whether the workers' threads are as many as cores are idle, as nothing else is asked for."""
    return choice.optimize == "auto" and not choice.workers and not choice.threads


def pinned(free: Sequence[int], workers: int, threads: int) -> tuple[tuple[int, ...], ...]:
    """Cores of its own for each worker, one a thread; none for any where these are too few for all."""
    if workers * threads > len(free):
        return ()
    return tuple(tuple(free[start : start + threads]) for start in range(0, workers * threads, threads))


class Launcher:
    """Decides on frontends, workers, devices, threads and cores for one machine."""

    def __init__(self, config: ServeConfig, folder: Path, gpus: int) -> None:
        self._usable = sorted(os.sched_getaffinity(0))
        self.cores = usable_cores(len(self._usable))
        self._config = config
        self._folder = folder
        self._gpus = gpus
        self._serials = itertools.count()
        self._slots = itertools.count()

    @property
    def frontends(self) -> int:
        """Processes that serve gRPC."""
        cores = _CORES_OF_FRONTEND["cuda" if self._gpus and self._config.device != "cpu" else "cpu"]
        return self._config.frontends or max(1, min(self.cores // cores, _MOST_FRONTENDS))

    @property
    def tokenizer_threads(self) -> int:
        """Of each frontend."""
        return -(-(self._config.tokenizer_threads or self.cores) // self.frontends)

    @property
    def max_load_workers(self) -> int:
        """That LoadModel may ask for: each needs a core."""
        return max(self.cores, self._gpus, self._config.workers) if self._config.may_load else 0

    def launch(self, choice: ModelChoice, compiled: CompiledModel, models: int, beside: Iterable[Launch]) -> Launch:
        """One of so many models, beside those that run already. Raises ConfigError, DescriptionError."""
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
        """Of all cores, whatever model's they are; none where there is only one."""
        if self.cores == 1:
            return ()
        path = self._folder / "cores"
        if not path.exists():
            shared_cores.make(path)
        most = min(self.cores, _MOST_THREADS) if takes_idle else 0
        return tuple(Share(str(path), next(self._slots) % SLOTS, self.cores, most) for _ in range(workers))

    def _free(self, choice: ModelChoice, beside: Iterable[Launch]) -> list[int]:
        """Cores that may be a model's own: those of the version that it replaces, too, but no other model's."""
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
        """One for each worker: the one that is asked for, or in turn the GPUs that have the fewest."""
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
