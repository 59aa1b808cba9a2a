"""Answers over HTTP that stand for statuses of gRPC: a google.rpc.Status as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.json_format import MessageToDict
from starlette.responses import JSONResponse

from bertstream.server.core.errors import Code, RequestError
from bertstream.server.protocols.statuses import to_status

# As google.rpc.Code maps them.
HTTP_STATUSES: Mapping[str, int] = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


def refusal(error: RequestError) -> JSONResponse:
    """Return the answer that tells of an error, with all its details."""
    headers = {"www-authenticate": "Bearer"} if error.code is Code.UNAUTHENTICATED else None
    return JSONResponse(MessageToDict(to_status(error)), HTTP_STATUSES[error.code.name], headers)
