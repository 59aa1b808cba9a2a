"""Statuses with details, and how a fake server fails with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

Code = grpc.StatusCode
PATIENCE = 60.0  # seconds, that a fake server waits for a test, and a test for what a fake server has to see


def status(
    code: grpc.StatusCode,
    message: str = "as told",
    reason: str = "",
    fields: tuple[tuple[str, str], ...] = (),
    retry_seconds: float | None = None,
    request_id: str = "",
) -> status_pb2.Status:
    """Return a google.rpc.Status with the details that are given."""
    result = status_pb2.Status(code=code.value[0], message=message)
    details: list[Any] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="bertstream.dev", metadata={"k": "v"}))
    if fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=path, description=text) for path, text in fields
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if retry_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(round(retry_seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if request_id:
        details.append(error_details_pb2.RequestInfo(request_id=request_id))
    for detail in details:
        result.details.add().Pack(detail)
    return result


def refuse_bad(keys: Sequence[str], context: Any, field: str = "inputs.texts") -> None:
    for index, key in enumerate(keys):
        if "bad" in key:
            path = f"{field}[{index}]"
            abort(context, status(Code.INVALID_ARGUMENT, f"{path} is bad", "INVALID_TEXT", ((path, "bad"),)))


def abort(context: Any, failure: status_pb2.Status) -> NoReturn:
    if failure.details:
        context.set_trailing_metadata((("grpc-status-details-bin", failure.SerializeToString()),))
    code = next(code for code in grpc.StatusCode if code.value[0] == failure.code)
    context.abort(code, failure.message)
    raise AssertionError
