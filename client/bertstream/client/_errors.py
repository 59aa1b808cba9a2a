"""The exceptions of the SDK, and how they are made from gRPC statuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DETAILS_KEY = "grpc-status-details-bin"
ERROR_DOMAIN = "bertstream.dev"
DEADLINE_REASON = "DEADLINE_EXCEEDED"
SHOWN_FIELDS = 3

_INDEX = re.compile(r"\b((?:inputs|choices|token_ids|documents)(?:\.[a-z_]+)*)\[(\d+)\]")
_MORE = re.compile(r" \(and (\d+) more\)$")


class FieldViolation(NamedTuple):
    """A field of the request that is at fault."""

    path: str
    """As in the request: `inputs.texts[3]`, or by the text's kind pairs, word_lists or token_ids; in a stream
    `items.inputs.texts[3]`; of `rerank` `documents[3]`, of `choose` `inputs.prompts[3]`. The index is that of the
    caller's list or stream, however it was cut into messages."""
    description: str
    """What is wrong with it."""


class BertstreamError(Exception):
    """The base of all that this package raises, but TypeError and ValueError for misuse that needs no server to see.

    ```
    BertstreamError
    └── RpcError                the call failed; has code, status, reason, message, fields, request_id, retry_after
        ├── InvalidArgument     the request is wrong, or too large: it will fail again (also OUT_OF_RANGE)
        ├── NotFound            no such model
        ├── FailedPrecondition  the model cannot do this, such as a head that it has not
        ├── Unauthenticated     no key, or a wrong one
        ├── PermissionDenied    this key may not
        ├── Overloaded          too much load: try again after `retry_after` seconds
        │   └── QuotaExceeded   this key's share is used up for now: likewise
        ├── Unavailable         no server, or one that starts, stops or has just lost a worker: try again
        ├── DeadlineExceeded    the timeout passed
        ├── Cancelled           the call was cancelled, such as by closing the client
        ├── Aborted             the server gave this input up, such as one that kills workers
        ├── Unimplemented       the server is older than this client, or another server altogether
        └── Internal            a bug of the server, or an answer that makes no sense (also UNKNOWN, DATA_LOSS)
    ```
    """


class RpcError(BertstreamError):
    """A call, or one item of a stream, that failed."""

    default_code = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        fields: Iterable[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
        retry_after: float | None = None,
        item_id: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """What went wrong, in the server's words."""
        self.code = code or self.default_code
        """The gRPC status code."""
        self.reason = reason
        """What went wrong, for programs: `ErrorInfo.reason`, such as "MODEL_NOT_FOUND"; empty where none was sent."""
        self.fields = list(fields)
        """The fields at fault: all of them, or of very many the first."""
        self.metadata = dict(metadata or {})
        """`ErrorInfo.metadata`."""
        self.request_id = request_id
        """Under which the server's log has the rest; empty where none was sent."""
        self.retry_after = retry_after
        """Seconds to wait before trying again, or None."""
        self.item_id = item_id
        """The id of the stream's item that failed, or None where the call as a whole did."""

    @property
    def status(self) -> str:
        """The name of the status code, such as "NOT_FOUND"."""
        return str(self.code.name)

    def __str__(self) -> str:
        prefix = "" if self.item_id is None else f"item {self.item_id}: "
        if listed := self._listed_fields():
            return prefix + listed
        more = [f"{path}: {text}" for path, text in self.fields if path not in self.message]
        if isinstance(self, Internal) and self.request_id:
            more.append(f"request {self.request_id}")
        return f"{prefix}{self.message or self.status}" + (f" ({'; '.join(more)})" if more else "")

    def _through(self, proxy: str) -> Self:
        """What no server of ours said may be what the proxy did; none of its words say that it is there."""
        if proxy:
            self.message = f"{self.message or self.status} (through the proxy {proxy}, by the environment)"
        return self

    def _listed_fields(self) -> str:
        """The fields at fault, where there are several and the message is but the first and a count of the others."""
        texts, counted = [f"{path}: {text}" for path, text in self.fields], _MORE.search(self.message)
        if not counted or not texts or _MORE.sub("", self.message) != texts[0]:
            return ""
        left = 1 + int(counted[1]) - len(texts[:SHOWN_FIELDS])
        return "; ".join(texts[:SHOWN_FIELDS]) + (f" (and {left:,} more)" if left > 0 else "")


class InvalidArgument(RpcError):
    """The request is wrong, or too large; the same request will fail again."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(RpcError):
    """No such model."""

    default_code = grpc.StatusCode.NOT_FOUND


class FailedPrecondition(RpcError):
    """The model cannot do this."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class Unauthenticated(RpcError):
    """No key, or a wrong one."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(RpcError):
    """This key may not."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class Overloaded(RpcError):
    """Too much load, or, as QuotaExceeded, a quota that is used up."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class QuotaExceeded(Overloaded):
    """This key has had its tokens a second, or has its number of calls under way: try again after `retry_after`."""


class Unavailable(RpcError):
    """No server there, or not ready."""

    default_code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(RpcError):
    """The timeout passed. The reason is "DEADLINE_EXCEEDED", whether client or server noticed first."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class Cancelled(RpcError):
    """The call was cancelled."""

    default_code = grpc.StatusCode.CANCELLED


class Aborted(RpcError):
    """The server gave this input up."""

    default_code = grpc.StatusCode.ABORTED


class Unimplemented(RpcError):
    """The server does not know this call."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


class Internal(RpcError):
    """A bug of the server, or an answer that makes no sense."""

    default_code = grpc.StatusCode.INTERNAL


_BY_CODE: dict[grpc.StatusCode, type[RpcError]] = {
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.ALREADY_EXISTS: FailedPrecondition,
    **{kind.default_code: kind for kind in RpcError.__subclasses__()},
}
_BY_REASON = {"QUOTA_EXCEEDED": QuotaExceeded}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def error_from_status(status: status_pb2.Status, item_id: int | None = None) -> RpcError:
    """The exception for a google.rpc.Status."""
    code = _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    return _build(code, status.message, status, item_id)


def error_from_call(error: Any, proxy: str = "") -> RpcError:
    """The exception for the grpc.RpcError that a call has raised. `proxy`: what it went through, host:port."""
    code = error.code() or grpc.StatusCode.UNKNOWN
    message = error.details() or ""
    too_large = _too_large(code, message)
    details = dict(iter(error.trailing_metadata() or ()))  # by its pairs: older aio.Metadata have keys() that are none
    if DETAILS_KEY not in details:
        if too_large:
            return too_large
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return timed_out(message)._through(proxy)
        if code is not grpc.StatusCode.CANCELLED:
            return _build(code, message, status_pb2.Status(), None)._through(proxy)
    return _build(code, message, _parse_details(details.get(DETAILS_KEY)), None)


def timed_out(message: str = "") -> DeadlineExceeded:
    """The exception where it was not the server that noticed that the time is up."""
    own = message.lower() in ("", "deadline exceeded")  # gRPC's words
    return DeadlineExceeded("the timeout passed before the answer came" if own else message, reason=DEADLINE_REASON)


def with_own_indexes(error: RpcError, own: Callable[[int], int]) -> RpcError:
    """The error with the paths of its fields as `own` makes the caller's indexes of those of the message."""

    def renumbered(match: re.Match[str]) -> str:
        return f"{match[1]}[{own(int(match[2]))}]"

    error.fields = [FieldViolation(_INDEX.sub(renumbered, path), text) for path, text in error.fields]
    error.message = _INDEX.sub(renumbered, error.message)
    return error


def unexpected_response(message: str) -> Internal:
    """The exception for an answer that makes no sense."""
    return Internal(f"unexpected answer from the server: {message}", reason="UNEXPECTED_RESPONSE")


def request_too_large(message: str, fields: Iterable[FieldViolation] = ()) -> InvalidArgument:
    """The exception for a text or message above the server's limits."""
    return InvalidArgument(message, reason="REQUEST_TOO_LARGE", fields=fields)


def _too_large(code: grpc.StatusCode, message: str) -> InvalidArgument | None:
    """gRPC's own refusal of large messages and metadata has the status of overload, though trying again cannot help."""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "metadata size exceeds" in message:
        return request_too_large(f"the metadata of the call is too large: {message}")
    if code is not grpc.StatusCode.RESOURCE_EXHAUSTED or "message larger than max" not in message:
        return None
    if "CLIENT: Received" in message:
        return InvalidArgument(f"the answer is too large for max_message_bytes: {message}", reason="RESPONSE_TOO_LARGE")
    return request_too_large(message)


def _parse_details(data: str | bytes | None) -> status_pb2.Status:
    try:
        return status_pb2.Status.FromString(data if isinstance(data, bytes) else b"")
    except DecodeError:
        return status_pb2.Status()


def _build(code: grpc.StatusCode, message: str, status: status_pb2.Status, item_id: int | None) -> RpcError:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    bad, request = error_details_pb2.BadRequest(), error_details_pb2.RequestInfo()
    retry_after = None
    for detail in status.details:
        try:
            if detail.Unpack(retry):
                retry_after = retry.retry_delay.ToTimedelta().total_seconds()
            else:
                _ = detail.Unpack(info) or detail.Unpack(bad) or detail.Unpack(request)
        except DecodeError:
            continue
    kind = _BY_CODE.get(code, Internal)
    narrower = _BY_REASON.get(info.reason, kind)
    return (narrower if issubclass(narrower, kind) else kind)(
        message,
        code=code,
        reason=info.reason,
        fields=[FieldViolation(violation.field, violation.description) for violation in bad.field_violations],
        metadata=info.metadata,
        request_id=request.request_id,
        retry_after=retry_after,
        item_id=item_id,
    )
