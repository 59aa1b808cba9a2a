"""The Python SDK of bertstream: tokenize, encode and stream over gRPC. Needs grpcio, protobuf and NumPy, no torch."""

from __future__ import annotations

from bertstream.client._async import AsyncClient
from bertstream.client._errors import (
    Aborted,
    BertstreamError,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    RpcError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from bertstream.client._options import EncodeOptions, TokenizeOptions
from bertstream.client._sync import Client
from bertstream.client._texts import Text
from bertstream.client._types import (
    EncodedBatch,
    Health,
    ItemError,
    Limits,
    Model,
    Outputs,
    Pooling,
    Progress,
    SpecialToken,
    StreamWindow,
    TokenizedBatch,
    Tokens,
)

__all__ = [
    "Aborted",
    "AsyncClient",
    "BertstreamError",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "EncodeOptions",
    "EncodedBatch",
    "FailedPrecondition",
    "FieldViolation",
    "Health",
    "Internal",
    "InvalidArgument",
    "ItemError",
    "Limits",
    "Model",
    "NotFound",
    "Outputs",
    "Overloaded",
    "PermissionDenied",
    "Pooling",
    "Progress",
    "RpcError",
    "SpecialToken",
    "StreamWindow",
    "Text",
    "TokenizeOptions",
    "TokenizedBatch",
    "Tokens",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]
