"""Turns errors into gRPC's statuses: a code, and a google.rpc.Status with details."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from bertstream.server.core.errors import RequestError

DOMAIN = "bertstream.dev"


def code_of(error: RequestError) -> grpc.StatusCode:
    """Return the status code of a call that ends with this error."""
    return grpc.StatusCode[error.code.name]


def to_status(error: RequestError, request_id: str = "") -> status_pb2.Status:
    """Return the google.rpc.Status of an error, with all details (AIP-193)."""
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)]
    status = status_pb2.Status(code=code_of(error).value[0], message=error.message, details=map(_pack, details))
    if error.violations:
        listed = [
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
            for v in error.violations
        ]
        status.details.append(_pack(error_details_pb2.BadRequest(field_violations=listed)))
    if error.retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_seconds * 1e9))
        status.details.append(_pack(retry))
    if request_id:
        status.details.append(_pack(error_details_pb2.RequestInfo(request_id=request_id)))
    return status


def trailers_of(
    error: RequestError, request_id: str, others: Mapping[str, str | bytes]
) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailers of a call that ends with an error: its status with all details, and the others.

    Then come, for gRPC's own retries (proposal A6), the milliseconds to wait, or a negative number for no retry.
    """
    pushback = -1 if error.retry_seconds is None else int(error.retry_seconds * 1e3)
    return (
        ("grpc-status-details-bin", to_status(error, request_id).SerializeToString()),
        *others.items(),
        ("grpc-retry-pushback-ms", str(pushback)),
    )


def _pack(message: object) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)  # type: ignore[arg-type]
    return packed
