"""Load and unload models for callers, by whatever protocol: the supervisor does it, for all frontends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bertstream.server.core.errors import (
    RequestError,
    checkpoint_not_found,
    draining,
    invalid,
    model_not_found,
    not_available,
    not_loadable,
    overloaded,
)
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.messages import ChangeOutcome, ForSupervisor, LoadModel, Refusal, UnloadModel
from bertstream.server.naming import is_name
from bertstream.server.protocols.call import Call

Ask = Callable[[ForSupervisor], Awaitable[ChangeOutcome]]
_ALLOWED = "it must be 1 to 128 of A-Z a-z 0-9 . _ / - without .. and not begin with /"


class Changes:
    """Change which models are served, where the server allows it."""

    def __init__(self, models: Models, ask: Ask, max_workers: int) -> None:
        self._models = models
        self._ask = ask  # asks the supervisor
        self.max_workers = max_workers  # of a model that is loaded; 0: loading is not allowed

    def check_allowed(self) -> None:
        """Raise LOADING_NOT_ALLOWED where the server was not started for it."""
        if not self.max_workers:
            raise not_available("this server was started without leave to load models", "LOADING_NOT_ALLOWED")

    async def load(self, load: LoadModel, call: Call, path: str = "name") -> ServedModel:
        """Load a model, or replace the one of this name, and return it; the request was parsed by `parse_load`.

        path: the name's in the request.

        Raises as LoadModel of the protocols may.
        """
        call.caller.check_model(load.name)
        await self._change(load, path)
        return self._models.get(load.name, call.until_end, call.caller)

    async def unload(self, name: str, call: Call, path: str = "name") -> None:
        """Unload a model; `path` is the name's in the request. Raises as UnloadModel of the protocols may."""
        if not name:
            raise invalid(path, "it must not be empty", "INVALID_MODEL_NAME")
        call.caller.check_model(name)
        await self._change(UnloadModel(name), path)

    async def _change(self, change: ForSupervisor, path: str) -> None:
        """Have the supervisor make the change for all frontends; it goes on even if this call ends before."""
        outcome = await self._ask(change)
        if outcome.refusal is not None:
            raise _refused(outcome.refusal, change.name, path)


def check_load(load: LoadModel, max_workers: int, paths: tuple[str, str, str]) -> LoadModel:
    """Return a request to load a model. Raises INVALID_ARGUMENT; `paths` are those of its name, source and workers.

    Only the supervisor knows whether there is such a checkpoint.
    """
    name, source, workers = paths
    for path, value in ((name, load.name), (source, load.source)):
        if not is_name(value):
            raise invalid(path, _ALLOWED, "INVALID_MODEL_NAME")
    if not 0 <= load.workers <= max_workers:
        raise invalid(workers, f"{load.workers}; it must be 0 to {max_workers}", "INVALID_RANGE")
    return load


def _refused(refusal: Refusal, model: str, path: str) -> RequestError:
    """Return the error for a caller whose model the supervisor could not load or unload."""
    message = refusal.message
    match refusal.kind:
        case "checkpoint_not_found":
            return checkpoint_not_found(message)
        case "not_loadable":
            return not_loadable(message)
        case "model_not_found":
            return model_not_found(model, message.split(", "))
        case "last_model":
            return invalid(path, message, "LAST_MODEL")
        case "busy":
            return overloaded(message, 5.0)
        case "draining":
            return draining()
