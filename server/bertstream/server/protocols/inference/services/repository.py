"""Load and unload models."""

from __future__ import annotations

from bertstream.server.core.errors import invalid
from bertstream.server.messages import LoadModel
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.changes import Changes, check_load
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.inference import inference_pb2 as pb
from bertstream.server.protocols.inference.choosing import checked
from bertstream.server.protocols.inference.options import Options, at, read_options

_COMPUTE_TYPES = ("float32", "float16", "bfloat16", "int8", "fp8")
_LOADING = ("source", "compute_type", "workers", "allow_unsupported_modules")
_UNLOADING = ("unload_dependents",)


class RepositoryHandlers:
    """Change which models are served."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def repository_model_load(
        self, request: Decoded[pb.RepositoryModelLoadRequest], call: Call
    ) -> pb.RepositoryModelLoadResponse:
        self._changes.check_allowed()
        message = checked(request)
        load = parse_load(message, self._changes.max_workers)
        await self._changes.load(load, call, "model_name")
        return pb.RepositoryModelLoadResponse(model_name=load.name, isLoaded=True)

    async def repository_model_unload(
        self, request: Decoded[pb.RepositoryModelUnloadRequest], call: Call
    ) -> pb.RepositoryModelUnloadResponse:
        self._changes.check_allowed()
        message = checked(request)
        name = _name(message)
        options = read_options(message.parameters)
        options.check_names(_UNLOADING)
        await self._changes.unload(name, call, "model_name")
        return pb.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)


def parse_load(message: pb.RepositoryModelLoadRequest, max_workers: int) -> LoadModel:
    """Return what to load: the checkpoint of the model's name, unless a parameter says which.

    Raises INVALID_ARGUMENT.
    """
    name, options = _name(message), read_options(message.parameters)
    options.check_names(_LOADING)
    load = LoadModel(
        name,
        options.text("source") or name,
        options.choice("compute_type", _COMPUTE_TYPES) or "",
        _workers(options, max_workers),
        bool(options.flag("allow_unsupported_modules")),
    )
    return check_load(load, max_workers, ("model_name", at("source"), at("workers")))


def _workers(options: Options, max_workers: int) -> int:
    return options.number("workers", 0, max_workers) or 0


def _name(message: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest) -> str:
    """Return the model's name: KServe's clients have it where Triton's have the repository's."""
    if message.model_name and message.repository_name:
        raise invalid("repository_name", "it must be empty: there is one repository", "INVALID_MODEL_NAME")
    return message.model_name or message.repository_name
