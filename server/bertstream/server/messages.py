"""The messages between the supervisor's process and a frontend, over the control line."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from bertstream.server.settings import KeyEntry, ModelSettings
from bertstream.workers.measuring.snapshots import LastSnapshot, Snapshot, TakeSnapshot


class ServeModels(Struct, frozen=True, tag=True):
    """Tells a frontend to serve exactly these models; it answers once it does."""

    models: tuple[ModelSettings, ...]


class AwaitDrained(Struct, frozen=True, tag=True):
    """Asks a frontend to answer once it has no call under way on these versions of models."""

    serials: tuple[int, ...]


class UseKeys(Struct, frozen=True, tag=True):
    """Tells a frontend to know callers by exactly these keys from now on."""

    keys: tuple[KeyEntry, ...]


class LoadModel(Struct, frozen=True, tag=True):
    """Asks the supervisor to load a model, or to replace the one of this name."""

    name: str
    source: str
    dtype: str = ""  # empty: the server chooses
    workers: int = 0  # 0: the server chooses
    allow_unsupported_modules: bool = False  # even if the server's own option does not allow them


class UnloadModel(Struct, frozen=True, tag=True):
    """Asks the supervisor to unload a model."""

    name: str


RefusalKind = Literal["checkpoint_not_found", "not_loadable", "model_not_found", "last_model", "busy", "draining"]


class Refusal(Struct, frozen=True):
    """Why a model was not loaded or unloaded; for "model_not_found" the message lists the names of all models."""

    kind: RefusalKind
    message: str = ""


class ChangeOutcome(Struct, frozen=True):
    """The answer to LoadModel or UnloadModel: done, or why it was refused."""

    refusal: Refusal | None = None


class CallsLeft(Struct, frozen=True, tag=True):
    """Tells how many calls a draining frontend still has under way."""

    calls: int


class Gather(Struct, frozen=True, tag=True):
    """Asks the supervisor for what all processes have counted until now, and how they are."""


ProcessKind = Literal["supervisor", "admin", "frontend", "worker"]
ProcessState = Literal["starting", "ready", "gone"]
ModelState = Literal["serving", "loading", "unavailable"]


class GatheredProcess(Struct, frozen=True):
    """One process of the server."""

    name: str
    kind: ProcessKind
    pid: int
    state: ProcessState
    uptime_seconds: float
    model: str = ""  # that it computes, where it is a worker
    restarts: int = 0  # how often a process of this name was replaced
    resident_bytes: int = 0
    cpu_seconds: float = 0.0  # since it started


class GatheredModel(Struct, frozen=True):
    """One model that is served, and what it is."""

    name: str
    revision: str
    dtype: str
    device: str
    layers: int
    heads: int
    tasks: tuple[str, ...]
    state: ModelState
    workers: int
    workers_alive: int
    batch_tokens: int
    compile_seconds: float = 0.0  # also to find it in the cache


class Gathered(Struct, frozen=True):
    """The answer to Gather."""

    time: float  # time.time()
    uptime_seconds: float
    version: str
    address: str
    cores: int
    ready: bool
    draining: bool
    snapshot: Snapshot  # of all processes together, those that have ended too
    processes: tuple[GatheredProcess, ...]
    models: tuple[GatheredModel, ...]


ForFrontend = ServeModels | AwaitDrained | UseKeys | TakeSnapshot
FromFrontend = CallsLeft | LastSnapshot
ForSupervisor = LoadModel | UnloadModel
