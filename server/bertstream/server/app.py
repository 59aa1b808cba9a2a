"""`bertstream serve`: compile what must be compiled, start workers, then frontends, and keep them until told to stop.

Runs in the supervisor's process, which loads neither torch nor grpc.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.progress import ProgressDisplay
from bertstream.server.settings import FrontendSettings, Limits, ModelSettings
from bertstream.workers.child import Child, ChildFailed, ChildSpec
from bertstream.workers.compiling import EMBEDDED_NAME, Compiled, CompileTask
from bertstream.workers.description import ModelDescription
from bertstream.workers.supervisor import Supervisor

_BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
# Raised so that glibc keeps what a batch frees, rather than returning it and faulting it in again with the next.
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A model to serve: the name that requests use, and where it comes from ("" is the embedded model)."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided before the first worker starts."""

    config: ServeConfig
    port: int
    sources: tuple[Source, ...]
    compiled: Compiled
    descriptions: tuple[ModelDescription, ...]
    directory: Path  # of sockets, for this run only

    @property
    def cores(self) -> int:
        return len(os.sched_getaffinity(0))

    @property
    def workers(self) -> int:
        """For each model."""
        if self.config.workers:
            return self.config.workers
        return self.compiled.devices if self.compiled.device == "cuda" else max(1, self.cores // len(self.sources))

    @property
    def threads(self) -> int:
        """Of each worker."""
        return self.config.threads or max(1, self.cores // (self.workers * len(self.sources)))

    def batch_tokens(self, description: ModelDescription) -> int:
        """At least one text of the greatest length must fit."""
        return max(self.config.batch_tokens or _BATCH_TOKENS[self.compiled.device], description.max_tokens)


def parse_sources(models: Sequence[str]) -> tuple[Source, ...]:
    """MODEL arguments: NAME=SOURCE, a directory (named like its last part) or a hub name. Raises ConfigError."""
    sources = tuple(_parse_source(text) for text in models) or (Source(EMBEDDED_NAME, ""),)
    names = [source.name for source in sources]
    if twice := {name for name in names if names.count(name) > 1}:
        name = min(twice)
        source = next(each.source for each in reversed(sources) if each.name == name)
        raise ConfigError(f"two models are called {name!r}; name them, as NAME={source or name}")
    return sources


def _parse_source(text: str) -> Source:
    name, equals, source = text.partition("=")
    if not equals:
        name, source = (Path(text).resolve().name if Path(text).is_dir() else text), text
    if not name or not source:
        raise ConfigError(f"{text!r} is not a model: give a hub name, a directory, or NAME=either")
    return Source(name, "" if source == EMBEDDED_NAME and not Path(source).exists() else source)


def serve(config: ServeConfig) -> None:
    """Serves until SIGTERM or SIGINT. Raises ConfigError and ChildFailed, whose messages are for people."""
    sources = parse_sources(config.models)
    with reserve_port(config.host, config.port) as reserved:
        port = reserved.getsockname()[1]
        directory = Path(tempfile.mkdtemp(prefix="bertstream-"))
        try:
            asyncio.run(_serve(config, port, sources, directory))
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def reserve_port(host: str, port: int) -> socket.socket:
    """Makes sure that nobody else has the port, and holds it: bound, not listening, open to our own frontends.

    Frontends share the port by SO_REUSEPORT, so that a second server would share it silently. Raises ConfigError.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            bound = alone.getsockname()
        shared = socket.socket(family, socket.SOCK_STREAM)
        try:
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(bound)
        except OSError:
            shared.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return shared


async def _serve(config: ServeConfig, port: int, sources: tuple[Source, ...], directory: Path) -> None:
    with ProgressDisplay() as display:
        task = CompileTask(
            tuple(each.source for each in sources), config.device, config.dtype, config.cache, config.log_level
        )
        compiled = await compile_models(task, display)
        if compiled is None:
            return
        descriptions = tuple(ModelDescription.load(Path(each)) for each in compiled.directories)
        plan = Plan(config, port, sources, compiled, descriptions, directory)
        workers = [worker_spec(plan, index, number) for index in range(len(sources)) for number in range(plan.workers)]
        display.say(f"starting {len(workers)} worker{'s' if len(workers) > 1 else ''}")

    def on_ready() -> None:
        print(ready_line(plan), flush=True)

    await Supervisor([workers, [frontend_spec(plan)]], config.drain_seconds, on_ready).run()


async def compile_models(task: CompileTask, display: ProgressDisplay) -> Compiled | None:
    """Runs the compiler's process. None where the user stopped it; raises ChildFailed."""
    spec = ChildSpec(
        "compile",
        lambda life, fd: ["bertstream.workers.compiling", task.to_json(), str(fd)],
        {},
        start_seconds=24 * 3600.0,
        on_event=display.update,
    )
    child = await Child.start(spec, 0)
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[dict[str, Any]] = loop.create_future()  # cancelled by a signal
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.cancel)
    ended = asyncio.create_task(child.wait())
    await asyncio.wait((child.ready, stopped), return_when=asyncio.FIRST_COMPLETED)
    child.kill()
    await ended
    if stopped.done():
        return None
    told = child.ready.result()
    names = [each.name for each in dataclasses.fields(Compiled)]
    return Compiled(**{**{name: told[name] for name in names}, "directories": tuple(told["directories"])})


def worker_spec(plan: Plan, index: int, number: int) -> ChildSpec:
    """A worker process of one model."""
    socket_path = _socket(plan, index, number)
    name = f"worker-{index}-{number}" if len(plan.sources) > 1 else f"worker-{number}"
    device = f"cuda:{number % plan.compiled.devices}" if plan.compiled.device == "cuda" else "cpu"

    def command(life: int, control_fd: int) -> list[str]:
        socket_path.unlink(missing_ok=True)
        running = socket_path.with_suffix(f".running.{life}")
        socket_path.with_suffix(f".running.{life - 2}").unlink(missing_ok=True)
        config = {
            "name": name,
            "directory": plan.compiled.directories[index],
            "device": device,
            "threads": plan.threads,
            "socket": str(socket_path),
            "running": str(running),
            "batch_tokens": plan.batch_tokens(plan.descriptions[index]),
            # What a frontend lets in at most: its bound, and one call that is larger than that on its own.
            "queue_tokens": plan.config.queue_tokens + plan.config.max_texts * plan.descriptions[index].max_tokens,
            "control_fd": control_fd,
            "log_level": plan.config.log_level,
        }
        return ["bertstream.workers.process", json.dumps(config)]

    threads = {"OMP_NUM_THREADS": str(plan.threads), "MKL_NUM_THREADS": str(plan.threads)}
    return ChildSpec(name, command, {**threads, **_MALLOC}, computing_seconds=plan.config.batch_seconds)


def frontend_spec(plan: Plan) -> ChildSpec:
    """The frontend process."""
    config = plan.config
    limits = Limits(**{each.name: getattr(config, each.name) for each in dataclasses.fields(Limits)})
    models = tuple(
        ModelSettings(
            source.name,
            plan.compiled.directories[index],
            tuple(str(_socket(plan, index, number)) for number in range(plan.workers)),
            config.queue_tokens,
        )
        for index, source in enumerate(plan.sources)
    )
    settings = FrontendSettings(
        name="frontend",
        host=config.host,
        port=plan.port,
        version=version("bertstream"),
        models=models,
        limits=limits,
        tokenizer_threads=config.tokenizer_threads or plan.cores,
        drain_seconds=config.drain_seconds,
        worker_wait_seconds=config.worker_wait_seconds,
        log_level=config.log_level,
    )
    return ChildSpec(
        "frontend",
        lambda life, fd: ["bertstream.server.frontend", settings.to_json(), str(fd)],
        {"TOKENIZERS_PARALLELISM": "false", "GRPC_VERBOSITY": "ERROR"},
    )


def ready_line(plan: Plan) -> str:
    """One line that says what is served, where, and how."""
    models = ", ".join(
        f"{source.name} ({its.family}, {its.layers} layers, {its.hidden_size} wide)"
        for source, its in zip(plan.sources, plan.descriptions, strict=True)
    )
    device, threads = plan.compiled.device, plan.threads
    workers = f"{plan.workers} worker{'s' if plan.workers > 1 else ''}"
    each = f" of {threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else ""
    operators = (
        "native operators"
        if plan.descriptions[0].native_operators
        else f"no native operators: {plan.compiled.operators}"
    )
    return (
        f"bertstream {version('bertstream')} ready on {plan.config.host}:{plan.port} | {models} | "
        f"{device} {plan.compiled.dtype} | {workers}{each} | {operators}"
    )


def _socket(plan: Plan, index: int, number: int) -> Path:
    return plan.directory / f"{index}-{number}.socket"


def fail(message: object) -> int:
    """A one-line error for a person. Returns the exit code."""
    print(f"bertstream: error: {message}", file=sys.stderr)
    return 1


__all__ = ["ChildFailed", "ConfigError", "compile_models", "fail", "parse_sources", "serve"]
