"""The statuses of HTTP that stand for our errors, and the headers that tell when to come again."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bertstream.server.core.errors import RequestError

# By the names of the codes, as google.rpc.Code maps them.
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
# By reasons, where HTTP has a status that says more.
_BY_REASON: Mapping[str, int] = {
    "REQUEST_TOO_LARGE": 413,
    "METHOD_NOT_FOUND": 404,
    "BODY_LATE": 408,
    "BODY_ENCODED": 415,
}


def status_of(error: RequestError) -> int:
    """Return the status of an answer that tells of this error."""
    return _BY_REASON.get(error.reason) or HTTP_STATUSES[error.code.name]


def headers_of(error: RequestError) -> dict[str, str]:
    """Return the headers of an answer that tells of this error.

    `retry-after` has whole seconds, as HTTP has no others there; OpenAI's clients prefer `retry-after-ms`.
    """
    headers = {"www-authenticate": "Bearer"} if error.code.name == "UNAUTHENTICATED" else {}
    if error.reason == "BODY_ENCODED":
        headers["accept-encoding"] = "identity"  # RFC 9110, 15.5.16
    if error.retry_seconds is not None:
        headers["retry-after"] = str(math.ceil(error.retry_seconds))
        headers["retry-after-ms"] = str(math.ceil(error.retry_seconds * 1e3))
    return headers
