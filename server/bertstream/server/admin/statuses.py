"""Answers over HTTP that stand for statuses of gRPC: a google.rpc.Status as JSON."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from starlette.responses import JSONResponse

from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.http.statuses import HTTP_STATUSES
from bertstream.server.protocols.statuses import to_status


def refusal(error: RequestError) -> JSONResponse:
    """Return the answer that tells of an error, with all its details."""
    return status_answer(to_status(error))


def status_answer(status: Status) -> JSONResponse:
    """Return the answer that tells of a status, with all its details."""
    headers = {"cache-control": "no-store"}
    if status.code == code_pb2.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    for detail in status.details:
        retry = RetryInfo()
        if detail.Unpack(retry):  # whole seconds, as HTTP has no others
            headers["retry-after"] = str(math.ceil(retry.retry_delay.ToNanoseconds() / 1e9))
    return JSONResponse(status_json(status), HTTP_STATUSES.get(code_pb2.Code.Name(status.code), 500), headers)


def status_json(status: Status) -> Any:
    """Return a status as JSON; without its details where one is of a type that is not known here."""
    try:
        return MessageToDict(status)
    except TypeError:
        return MessageToDict(Status(code=status.code, message=status.message))
