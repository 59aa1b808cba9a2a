"""The forms in which APIs tell of errors."""

from __future__ import annotations

from bertstream.server.core.errors import Code, RequestError
from bertstream.server.protocols.http.answers import HttpAnswer, answer_of
from bertstream.server.protocols.http.statuses import status_of

_OPENAI_TYPES = {
    Code.UNAUTHENTICATED: "authentication_error",
    Code.PERMISSION_DENIED: "permission_error",
    Code.RESOURCE_EXHAUSTED: "rate_limit_error",
    Code.INTERNAL: "server_error",
    Code.UNAVAILABLE: "server_error",
    Code.DEADLINE_EXCEEDED: "server_error",
    Code.ABORTED: "server_error",
}


def openai_form(error: RequestError, request_id: str) -> HttpAnswer:
    """Return an error as OpenAI's API tells of it; `code` is our reason, and `param` the path of what is wrong."""
    told = {
        "message": error.message,
        "type": _OPENAI_TYPES.get(error.code, "invalid_request_error"),
        "param": next((each.field for each in error.violations if each.field), None),
        "code": "invalid_api_key" if error.code is Code.UNAUTHENTICATED else error.reason.lower(),
        "request_id": request_id,
    }
    return answer_of({"error": told}, status_of(error))
