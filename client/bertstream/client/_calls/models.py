"""The operations behind the methods about health and models."""

from __future__ import annotations

from typing import TypeAlias

from bertstream.client._calls.health import HEALTH_RPC, check_request, check_response
from bertstream.client._calls.unary_calls import Operation, call
from bertstream.client._descriptions import model_of
from bertstream.client._enums import value_of
from bertstream.client._errors import NotFound, PermissionDenied, Unauthenticated, Unimplemented
from bertstream.client._fields import optional_whole, set_fields
from bertstream.client._texts import refusal
from bertstream.client._types import ComputeType, Health, Model
from bertstream.v1 import models_pb2 as models
from bertstream.v1 import types_pb2 as types

Descriptions: TypeAlias = dict[str, Model]
"""The descriptions of models that a client has fetched, by the name that was asked for."""


def get_model(name: str) -> Operation[Model]:
    """Return the description of a model."""
    request = set_fields(models.GetModelRequest(), name=name)
    answer: models.GetModelResponse = yield from call("GetModel", request)
    return model_of(answer.model)


def describe(known: Descriptions, name: str) -> Operation[Model | None]:
    """Return the description of a model, fetched once; None if the server refuses to describe it."""
    if name not in known:
        try:
            known[name] = yield from get_model(name)
        except (Unimplemented, PermissionDenied, Unauthenticated):
            return None
    return known[name]


def health(service: str) -> Operation[Health]:
    """Return the health of a service, by grpc.health.v1.Health/Check. Raises TypeError for other than a str."""
    if not isinstance(service, str):
        raise TypeError(f"service must be a str, not {service!r}")
    try:
        return check_response((yield from call(HEALTH_RPC, check_request(service))))
    except UnicodeEncodeError as error:
        raise refusal(error, "service") from None
    except NotFound:  # Check's way to say SERVICE_UNKNOWN
        return Health.SERVICE_UNKNOWN


def list_models() -> Operation[tuple[list[Model], str]]:
    """Return the models and the server's version."""
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
    """Load a model, and forget all descriptions, since it may replace another."""
    request = set_fields(
        models.LoadModelRequest(),
        name=name,
        source=source,
        workers=optional_whole(workers, "workers"),
        allow_unsupported_modules=allow_unsupported_modules,
    )
    if dtype is not None:
        request.compute_type = value_of(types.DataType, dtype, "dtype")
    try:
        answer: models.LoadModelResponse = yield from call("LoadModel", request, patient=True)
    finally:  # even if the call fails here, the server may go on loading
        known.clear()
    return model_of(answer.model)


def unload_model(known: Descriptions, name: str) -> Operation[None]:
    """Take a model out of service."""
    yield from call("UnloadModel", set_fields(models.UnloadModelRequest(), name=name), patient=True)
    known.clear()
