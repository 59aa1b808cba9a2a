"""The forms in which APIs tell of errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


# text-embeddings-inference has no more types than these; the status of each is its own, too.
_TEI = {
    "INVALID_EMPTY_LIST": (400, "empty"),
    "REQUEST_TOO_LARGE": (413, "validation"),
    "INVALID_TEXT_LENGTH": (413, "validation"),
    "BODY_ENCODED": (415, "validation"),
}
_TEI_BY_CODE = {
    Code.INVALID_ARGUMENT: (422, "validation"),
    Code.FAILED_PRECONDITION: (424, "backend"),
    Code.ABORTED: (424, "backend"),
    Code.RESOURCE_EXHAUSTED: (429, "overloaded"),
    Code.UNAVAILABLE: (503, "unhealthy"),
    Code.INTERNAL: (500, "backend"),
    Code.DEADLINE_EXCEEDED: (504, "backend"),
}
_TOKENIZER = ("INVALID_TEXT", "INVALID_EMPTY_TEXT", "INVALID_TOKEN_ID", "INVALID_TRUNCATION")


def tei_form(error: RequestError, request_id: str) -> HttpAnswer:
    """Return an error as text-embeddings-inference tells of it."""
    if error.reason in _TOKENIZER:
        status, kind = 422, "tokenizer"
    else:
        other = (status_of(error), "validation")
        status, kind = _TEI.get(error.reason) or _TEI_BY_CODE.get(error.code) or other
    return answer_of({"error": error.message, "error_type": kind}, status)


def rerank_form(error: RequestError, request_id: str) -> HttpAnswer:
    """Return an error as Cohere's API tells of it, in `message`, and as Jina's does, in `detail`."""
    return answer_of({"message": error.message, "detail": error.message, "id": request_id}, status_of(error))


def openai_form(error: RequestError, request_id: str) -> HttpAnswer:
    """Return an error as OpenAI's API tells of it; `code` is our reason, and `param` the path of what is wrong."""
    told = {
        "message": error.message,
        "type": _OPENAI_TYPES.get(error.code, "invalid_request_error"),
        "param": _field(error),
        "code": "invalid_api_key" if error.code is Code.UNAUTHENTICATED else error.reason.lower(),
        "request_id": request_id,
    }
    return answer_of({"error": told}, status_of(error))


def own_error(error: RequestError) -> Mapping[str, Any]:
    """Return what our own endpoints tell of an error: by gRPC's names, with the path of what is wrong, or null."""
    told: dict[str, Any] = {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "field": _field(error),
    }
    if error.retry_seconds is not None:
        told["retry_after"] = error.retry_seconds
    return {"error": told}


def own_form(error: RequestError, request_id: str) -> HttpAnswer:
    """Return an error as our own endpoints tell of it; a header has the request's id."""
    return answer_of(own_error(error), status_of(error))


def _field(error: RequestError) -> str | None:
    return next((each.field for each in error.violations if each.field), None)
