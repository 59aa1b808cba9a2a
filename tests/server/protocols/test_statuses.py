from __future__ import annotations

from typing import Any

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from bertstream.server.core import errors
from bertstream.server.core.errors import Code, RequestError, Violation
from bertstream.server.protocols.statuses import DOMAIN, code_of, to_status

D: Any = error_details_pb2


def detail(status: status_pb2.Status, kind: Any) -> object:
    """Return the status's only detail of this kind."""
    found = [each for each in status.details if each.Is(kind.DESCRIPTOR)]
    assert len(found) == 1
    message = kind()
    found[0].Unpack(message)
    return message


CASES: list[tuple[RequestError, str, str, bool]] = [
    (errors.invalid("inputs", "is empty", "INVALID_EMPTY_LIST"), "INVALID_ARGUMENT", "INVALID_EMPTY_LIST", False),
    (errors.too_large("inputs.texts", "too many"), "INVALID_ARGUMENT", "REQUEST_TOO_LARGE", False),
    (errors.model_not_found("x", ["a", "b"]), "NOT_FOUND", "MODEL_NOT_FOUND", False),
    (errors.not_available("no pooler"), "FAILED_PRECONDITION", "OUTPUT_NOT_AVAILABLE", False),
    (errors.overloaded("busy", 0.25), "RESOURCE_EXHAUSTED", "OVERLOADED", True),
    (errors.out_of_memory(), "RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", False),
    (errors.worker_lost("gone"), "UNAVAILABLE", "WORKER_LOST", True),
    (errors.draining(), "UNAVAILABLE", "DRAINING", True),
    (errors.poisonous(3), "ABORTED", "POISONOUS_INPUT", False),
    (errors.deadline_exceeded(), "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", False),
    (errors.internal(), "INTERNAL", "INTERNAL", False),
]


@pytest.mark.parametrize(("error", "code", "reason", "retried"), CASES, ids=lambda case: str(case)[:30])
def test_every_error_has_a_code_a_reason_and_its_details(
    error: RequestError, code: str, reason: str, retried: bool
) -> None:
    status = to_status(error, "id-1")
    assert status.code == code_pb2.Code.Value(code)
    info = detail(status, D.ErrorInfo)
    assert isinstance(info, D.ErrorInfo)
    assert (info.reason, info.domain) == (reason, DOMAIN)
    request = detail(status, D.RequestInfo)
    assert isinstance(request, D.RequestInfo)
    assert request.request_id == "id-1"
    assert any(each.Is(D.RetryInfo.DESCRIPTOR) for each in status.details) == retried
    assert any(each.Is(D.BadRequest.DESCRIPTOR) for each in status.details) == (code == "INVALID_ARGUMENT")


def test_how_long_to_wait() -> None:
    retry = detail(to_status(errors.overloaded("busy", 1.5)), D.RetryInfo)
    assert isinstance(retry, D.RetryInfo)
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (1, 500_000_000)


def test_the_details_of_many_violations_still_fit_into_a_header() -> None:
    violations = [Violation(f"inputs.token_ids[{i}]", "token id 123456789 is not in [0, 30522)") for i in range(4096)]
    status = to_status(errors.invalid_fields(violations), "x" * 128)
    bad = detail(status, D.BadRequest)
    assert isinstance(bad, D.BadRequest)
    assert len(bad.field_violations) == errors.MAX_VIOLATIONS
    assert len(status.SerializeToString()) * 4 / 3 < 8000


@pytest.mark.parametrize("code", Code)
def test_every_code_is_one_of_grpc(code: Code) -> None:
    error = RequestError(code, "REASON", "why")
    assert code_of(error).name == code.name
    assert to_status(error).code == code_pb2.Code.Value(code.name)
