"""The messages between the supervisor's process and a frontend, over the control line."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from bertstream.server.settings import KeyEntry, ModelSettings


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


class CallsLeft(Struct, frozen=True):
    """Tells how many calls a draining frontend still has under way."""

    calls: int


ForFrontend = ServeModels | AwaitDrained | UseKeys
ForSupervisor = LoadModel | UnloadModel
