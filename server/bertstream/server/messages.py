"""What the supervisor's process and a frontend ask and tell each other over the control line."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from bertstream.server.settings import KeyEntry, ModelSettings


class ServeModels(Struct, frozen=True, tag=True):
    """A frontend is to serve just these models; answered once it does."""

    models: tuple[ModelSettings, ...]


class AwaitDrained(Struct, frozen=True, tag=True):
    """A frontend answers once it has no call under way on these versions of models."""

    serials: tuple[int, ...]


class UseKeys(Struct, frozen=True, tag=True):
    """A frontend is to know callers by just these keys from now on."""

    keys: tuple[KeyEntry, ...]


class LoadModel(Struct, frozen=True, tag=True):
    """The supervisor is to load a model, or to replace the one of this name."""

    name: str
    source: str
    dtype: str = ""  # the server's choice
    workers: int = 0  # the server's choice
    allow_unsupported_modules: bool = False  # also where the server does not


class UnloadModel(Struct, frozen=True, tag=True):
    """The supervisor is to unload a model."""

    name: str


RefusalKind = Literal["checkpoint_not_found", "not_loadable", "model_not_found", "last_model", "busy", "draining"]


class Refusal(Struct, frozen=True):
    """Why a model was not loaded or unloaded; of "model_not_found" the message is the names of those there are."""

    kind: RefusalKind
    message: str = ""


class ChangeOutcome(Struct, frozen=True):
    """What came of LoadModel or UnloadModel."""

    refusal: Refusal | None = None


class CallsLeft(Struct, frozen=True):
    """A frontend that drains has so many calls under way."""

    calls: int


ForFrontend = ServeModels | AwaitDrained | UseKeys
ForSupervisor = LoadModel | UnloadModel
