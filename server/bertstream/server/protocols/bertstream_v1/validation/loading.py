"""Parses requests to load a model. Only the supervisor knows whether there is such a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from bertstream.server.messages import LoadModel
from bertstream.server.protocols.changes import check_load
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


def parse_load(request: models_pb2.LoadModelRequest, max_workers: int) -> LoadModel:
    """Parse the request. Raises INVALID_ARGUMENT."""
    dtype = name_of(COMPUTE_TYPES, request.compute_type, "compute_type")
    load = LoadModel(request.name, request.source, dtype, request.workers, request.allow_unsupported_modules)
    return check_load(load, max_workers, ("name", "source", "workers"))
