"""Parses requests to load a model. Only the supervisor knows whether there is such a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from bertstream.server.core.errors import invalid
from bertstream.server.messages import LoadModel
from bertstream.server.naming import is_name
from bertstream.server.protocols.enums import name_of
from bertstream.v1 import models_pb2, types_pb2

COMPUTE_TYPES: Mapping[int, str] = {
    types_pb2.DATA_TYPE_UNSPECIFIED: "",
    types_pb2.DATA_TYPE_FLOAT32: "float32",
    types_pb2.DATA_TYPE_FLOAT16: "float16",
    types_pb2.DATA_TYPE_BFLOAT16: "bfloat16",
    types_pb2.DATA_TYPE_INT8: "int8",
    types_pb2.DATA_TYPE_FP8: "fp8",
}
_ALLOWED = "it must be 1 to 128 of A-Z a-z 0-9 . _ / - without .. and not begin with /"


def parse_load(request: models_pb2.LoadModelRequest, max_workers: int) -> LoadModel:
    """Parse the request. Raises INVALID_ARGUMENT."""
    for field, value in (("name", request.name), ("source", request.source)):
        if not is_name(value):
            raise invalid(field, _ALLOWED, "INVALID_MODEL_NAME")
    if not 0 <= request.workers <= max_workers:
        raise invalid("workers", f"{request.workers}; it must be 0 to {max_workers}", "INVALID_RANGE")
    dtype = name_of(COMPUTE_TYPES, request.compute_type, "compute_type")
    return LoadModel(request.name, request.source, dtype, request.workers, request.allow_unsupported_modules)
