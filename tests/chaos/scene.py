"""The server that faults are provoked in, and what is known of it: its processes, its callers, whether it is whole."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bertstream.client import BertstreamError, Client
from bertstream.workers import native
from bertstream.workers.compile.compiler import compile_model
from tests.chaos import calls
from tests.chaos.clock import Clock
from tests.chaos.load import Load, loaded
from tests.support.checkpoints import tiny_bert
from tests.support.generation_checkpoints import tiny_causal
from tests.support.heads import HEAD_MAKERS
from tests.support.programs import plant_faults
from tests.support.server import Server, running

HANGS_ON, FAILS_ON = 40, 41  # token ids of the faulty model
FRONTENDS = 2
WORKERS = {calls.ENCODER: 2, calls.FAULTY: 1, calls.CLASSIFIER: 1, calls.DECODER: 1}
BATCH_SECONDS = 5  # after which a batch is taken for one that hangs
WHOLE_SECONDS = 120.0  # within which all processes must be there again
CONNECTIONS = 512  # to each frontend
FRONTEND, WORKER = "bertstream.server.frontend.process", "bertstream.workers.process"


class NotAsPromised(Exception):
    """A fault had other consequences than it should; the message says which."""


@dataclass(slots=True)
class Scene:
    """A running server with callers."""

    server: Server
    client: Client  # of whoever provokes
    load: Load
    clock: Clock | None  # of the server's processes; None where there is no C compiler
    cache: Path
    roots: Path  # where checkpoints may be loaded from

    @property
    def frontends(self) -> list[psutil.Process]:
        """Its processes that serve gRPC."""
        return self.server.children(FRONTEND)

    def workers(self, model: str) -> list[psutil.Process]:
        """Return the processes of one model."""
        number = list(WORKERS).index(model)
        return [each for each in self.server.workers if f"worker-{number}-" in " ".join(each.cmdline())]

    def is_whole(self) -> bool:
        """Return whether all processes are there, and say that they serve."""
        alive = {each.pid for each in (*self.frontends, *self.server.workers)}
        if len(alive) < FRONTENDS + sum(WORKERS.values()) or not alive <= self._ready():
            return False
        try:
            models = {model.name: model.live_workers for model in self.client.models(timeout=5)}
            return models == WORKERS and bool(self.client.health(timeout=5))
        except BertstreamError:
            return False

    def _ready(self) -> set[int]:
        """Return the processes that were ready at some time."""
        return {record["pid"] for record in self.server.records if record["message"].endswith(" is ready")}

    def wait_until_whole(self) -> float:
        """Return the time (CLOCK_MONOTONIC, seconds) when it was. Raises NotAsPromised where it takes too long."""
        wait_for(self.is_whole, "all processes to be there again", WHOLE_SECONDS)
        return time.monotonic()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until the condition holds. Raises NotAsPromised."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotAsPromised(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.1)


def promise(holds: bool, otherwise: str) -> None:
    """Raise NotAsPromised where something does not hold."""
    if not holds:
        raise NotAsPromised(otherwise)


@contextlib.contextmanager
def scene(
    built: Path, processes: int, folder: Path | None = None, batch_seconds: float = BATCH_SECONDS
) -> Iterator[Scene]:
    """Start a server and its callers, who have been answered before this begins.

    built: keeps the native operators. batch_seconds: after which a batch is taken for one that hangs.
    """
    with contextlib.ExitStack() as stack:
        own = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bertstream-chaos-")))
        cache, roots = own / "cache", own / "roots"
        config, clock = prepare(own, cache, roots, built, batch_seconds), Clock.build(own)
        environment = {"BERTSTREAM_CONFIG": str(config), **(clock.environment if clock else {})}
        server = stack.enter_context(running(cache=cache, environment=environment))
        client = stack.enter_context(Client(server.address, retries=0, channels=1))
        expected = own / "expected.npz"
        calls.save(calls.ask_all(client), expected)
        load = stack.enter_context(loaded(server.address, expected, processes))
        yield Scene(server, client, load, clock, cache, roots)


def prepare(own: Path, cache: Path, roots: Path, built: Path, batch_seconds: float) -> Path:
    """Make checkpoints, a cache in which one model is faulty, and the server's config file, which is returned."""
    cache.mkdir()
    native_folder = built.resolve() / "native"
    with contextlib.suppress(native.NativeError):
        native.build(built)
        (cache / "native").symlink_to(native_folder)
    faulty = tiny_bert(roots / "faulty")
    plant_faults(compile_model(faulty, cache=cache), hangs_on=HANGS_ON, fails_on=FAILS_ON)
    maker, options = HEAD_MAKERS["bert-classifier"]
    sources = {
        calls.ENCODER: calls.ENCODER,
        calls.FAULTY: faulty,
        calls.CLASSIFIER: maker(roots / "classifier", **options),
        calls.DECODER: tiny_causal(roots / "decoder", "bert"),
    }
    tiny_bert(roots / "spare", lowercase=False)
    lines = [
        "frontends = 2",
        "threads = 1",
        "port = 0",
        f"batch_seconds = {batch_seconds}",
        f"max_connections = {CONNECTIONS}",
        f"model_roots = [{json.dumps(str(roots))}]",
    ]
    for name, source in sources.items():
        lines += [f"[model.{json.dumps(name)}]", f"source = {json.dumps(str(source))}", f"workers = {WORKERS[name]}"]
    config = own / "bertstream.toml"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config.chmod(0o600)
    return config


def open_files(processes: list[psutil.Process]) -> int:
    """Return how many descriptors processes have open."""
    return sum(each.num_fds() for each in processes)


def resident(processes: list[psutil.Process]) -> int:
    """Return the bytes of memory that processes have resident."""
    return sum(each.memory_info().rss for each in processes)
