"""What the methods about health and models do."""

from __future__ import annotations

from typing import TypeAlias

from bertstream.client._calls.health import HEALTH_RPC, check_request, check_response
from bertstream.client._calls.operations import Operation, call
from bertstream.client._descriptions import model_of
from bertstream.client._enums import value_of
from bertstream.client._errors import NotFound, PermissionDenied, Unauthenticated, Unimplemented
from bertstream.client._types import ComputeType, Health, Model
from bertstream.v1 import models_pb2 as models
from bertstream.v1 import types_pb2 as types

Descriptions: TypeAlias = dict[str, Model]
"""What a client has learnt of the models, by the name asked for."""


def get_model(name: str) -> Operation[Model]:
    """One model."""
    answer: models.GetModelResponse = yield from call("GetModel", models.GetModelRequest(name=name))
    return model_of(answer.model)


def describe(known: Descriptions, name: str) -> Operation[Model | None]:
    """One model, asked for once; None where the server does not let us know."""
    if name not in known:
        try:
            known[name] = yield from get_model(name)
        except (Unimplemented, PermissionDenied, Unauthenticated):
            return None
    return known[name]


def health(service: str) -> Operation[Health]:
    """grpc.health.v1.Health/Check."""
    try:
        return check_response((yield from call(HEALTH_RPC, check_request(service))))
    except NotFound:  # so Check says what Watch says by a status
        return Health.SERVICE_UNKNOWN


def list_models() -> Operation[tuple[list[Model], str]]:
    """The models and the server's version."""
    answer: models.ListModelsResponse = yield from call("ListModels", models.ListModelsRequest())
    return [model_of(model) for model in answer.models], answer.server_version


def load_model(
    known: Descriptions,
    name: str,
    source: str,
    dtype: ComputeType | None,
    workers: int,
    allow_unsupported_modules: bool,
) -> Operation[Model]:
    """Loads a model, and forgets what was known of the one before."""
    request = models.LoadModelRequest(
        name=name, source=source, workers=workers, allow_unsupported_modules=allow_unsupported_modules
    )
    if dtype is not None:
        request.compute_type = value_of(types.DataType, dtype, "dtype")
    try:
        answer: models.LoadModelResponse = yield from call("LoadModel", request, patient=True)
    finally:  # a load whose caller gives up goes on
        known.clear()
    return model_of(answer.model)


def unload_model(known: Descriptions, name: str) -> Operation[None]:
    """Takes a model out of service."""
    yield from call("UnloadModel", models.UnloadModelRequest(name=name), patient=True)
    known.clear()
