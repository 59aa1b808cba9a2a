from __future__ import annotations

import json
from typing import Any

import pytest

from bertstream.server.core import errors
from bertstream.server.protocols.http.forms import openai_form, own_form, rerank_form, tei_form
from bertstream.server.protocols.http.statuses import headers_of

ERRORS: list[tuple[errors.RequestError, int, str, int, str]] = [
    (errors.invalid("input[3]", "it is wrong"), 400, "invalid_request_error", 422, "validation"),
    (errors.too_large("input", "too many"), 413, "invalid_request_error", 413, "validation"),
    (errors.invalid("input", "empty", "INVALID_EMPTY_LIST"), 400, "invalid_request_error", 400, "empty"),
    (errors.invalid("input", "no", "INVALID_TOKEN_ID"), 400, "invalid_request_error", 422, "tokenizer"),
    (errors.model_not_found("a", ["b"]), 404, "invalid_request_error", 404, "validation"),
    (errors.not_available("none"), 400, "invalid_request_error", 424, "backend"),
    (errors.key_required(), 401, "authentication_error", 401, "validation"),
    (errors.model_not_allowed("a", ["b"]), 403, "permission_error", 403, "validation"),
    (errors.overloaded("full", 0.25), 429, "rate_limit_error", 429, "overloaded"),
    (errors.quota_exceeded("full", 1.5), 429, "rate_limit_error", 429, "overloaded"),
    (errors.worker_lost("gone"), 503, "server_error", 503, "unhealthy"),
    (errors.draining(), 503, "server_error", 503, "unhealthy"),
    (errors.poisonous(2), 409, "server_error", 424, "backend"),
    (errors.deadline_exceeded(), 504, "server_error", 504, "backend"),
    (errors.internal(), 500, "server_error", 500, "backend"),
    (errors.body_late(1.0), 408, "server_error", 504, "backend"),
    (errors.body_encoded("gzip"), 415, "invalid_request_error", 415, "validation"),
]


@pytest.mark.parametrize(("error", "status", "kind", "tei_status", "tei_kind"), ERRORS, ids=lambda each: str(each))
def test_errors_in_each_form(
    error: errors.RequestError, status: int, kind: str, tei_status: int, tei_kind: str
) -> None:
    openai, tei, rerank = (form(error, "the-id") for form in (openai_form, tei_form, rerank_form))
    told: Any = json.loads(openai.parts[0])["error"]
    assert (openai.status, told["type"], told["message"]) == (status, kind, error.message)
    assert told["param"] == (error.violations[0].field if error.violations else None)
    assert (tei.status, json.loads(tei.parts[0])) == (tei_status, {"error": error.message, "error_type": tei_kind})
    assert (rerank.status, json.loads(rerank.parts[0])["message"]) == (status, error.message)


@pytest.mark.parametrize(("error", "status"), [each[:2] for each in ERRORS], ids=lambda each: str(each))
def test_errors_in_our_own_form(error: errors.RequestError, status: int) -> None:
    answer = own_form(error, "the-id")
    told: Any = json.loads(answer.parts[0])["error"]
    assert (answer.status, told["code"], told["reason"]) == (status, error.code.name, error.reason)
    assert (told["message"], told.get("retry_after")) == (error.message, error.retry_seconds)
    assert told["field"] == (error.violations[0].field if error.violations else None)


def test_every_code_has_a_status() -> None:
    made = [errors.RequestError(code, "REASON", "message") for code in errors.Code]
    assert all(
        400 <= form(each, "").status < 600 for form in (openai_form, tei_form, rerank_form, own_form) for each in made
    )


def test_when_to_come_again() -> None:
    assert headers_of(errors.overloaded("full", 0.25)) == {"retry-after": "1", "retry-after-ms": "250"}
    assert headers_of(errors.invalid("a", "b")) == {}


def test_which_encodings_there_are() -> None:
    assert headers_of(errors.body_encoded("gzip")) == {"accept-encoding": "identity"}
