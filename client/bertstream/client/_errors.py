"""The exceptions of the SDK, and how they are made from gRPC statuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

T = TypeVar("T")

DETAILS_KEY = "grpc-status-details-bin"
ERROR_DOMAIN = "bertstream.dev"
DEADLINE_REASON = "DEADLINE_EXCEEDED"
SHOWN_FIELDS = 3

_INDEX = re.compile(r"\b((?:inputs|choices|token_ids|documents)(?:\.[a-z_]+)*)\[(\d+)\]")
_MORE = re.compile(r" \(and (\d+) more\)$")


class FieldViolation(NamedTuple):
    """A field of the request that is at fault."""

    path: str
    """The field's path in the request: `inputs.texts[3]`, or pairs, word_lists or token_ids in place of texts, by the
    kind of the text; in a stream `items.inputs.texts[3]`; for `rerank` `documents[3]` or `query`, for `choose`
    `inputs.prompts[3]`, for `zero_shot` also `options.labels[3]`. The index of an item counts in the caller's list or
    stream, however that was cut into messages."""
    description: str
    """What is wrong with it."""


class BertstreamError(Exception):
    """The base of all errors of this package, except TypeError and ValueError for misuse that is seen without a server.

    ```
    BertstreamError
    └── RpcError                the call failed; it has code, status, reason, message, fields, request_id, retry_after
        ├── InvalidArgument     the request is wrong, or too large: it will fail again (also OUT_OF_RANGE)
        ├── NotFound            there is no such model
        ├── FailedPrecondition  the model cannot do this, for example because it lacks the head
        ├── Unauthenticated     the API key is missing or wrong
        ├── PermissionDenied    the API key does not permit this
        ├── Overloaded          too much load: try again after `retry_after` seconds
        │   └── QuotaExceeded   the API key's quota is used up for now: try again likewise
        ├── Unavailable         no server, or one that starts, stops or has just lost a worker: try again
        ├── DeadlineExceeded    the timeout passed
        ├── Cancelled           the call was cancelled, for example by closing the client
        ├── Aborted             the server gave this input up, for example because it kills workers
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
        """The fields at fault: all of them, or the first ones where there are very many."""
        self.metadata = dict(metadata or {})
        """`ErrorInfo.metadata`."""
        self.request_id = request_id
        """The id of the call in the server's log, which may tell more; empty where none was sent."""
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
        """Return the error, with the proxy named in its message, since a proxy's own errors do not name it."""
        if proxy:
            self.message = f"{self.message or self.status} (through the proxy {proxy}, by the environment)"
        return self

    def _listed_fields(self) -> str:
        """Return the fields at fault, if the message has only the first of several and a count of the others."""
        texts, counted = [f"{path}: {text}" for path, text in self.fields], _MORE.search(self.message)
        if not counted or not texts or _MORE.sub("", self.message) != texts[0]:
            return ""
        left = 1 + int(counted[1]) - len(texts[:SHOWN_FIELDS])
        return "; ".join(texts[:SHOWN_FIELDS]) + (f" (and {left:,} more)" if left > 0 else "")


class InvalidArgument(RpcError):
    """The request is wrong, or too large; the same request will fail again."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(RpcError):
    """There is no such model."""

    default_code = grpc.StatusCode.NOT_FOUND


class FailedPrecondition(RpcError):
    """The model cannot do this."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class Unauthenticated(RpcError):
    """The API key is missing or wrong."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(RpcError):
    """The API key does not permit this."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class Overloaded(RpcError):
    """The server has too much load, or, as QuotaExceeded, a quota is used up."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class QuotaExceeded(Overloaded):
    """The API key has used up its tokens per second, or its calls under way: try again after `retry_after`."""


class Unavailable(RpcError):
    """There is no server, or it is not ready."""

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
    """The server has a bug, or its answer makes no sense."""

    default_code = grpc.StatusCode.INTERNAL


_BY_CODE: dict[grpc.StatusCode, type[RpcError]] = {
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.ALREADY_EXISTS: FailedPrecondition,
    **{kind.default_code: kind for kind in RpcError.__subclasses__()},
}
_BY_REASON = {"QUOTA_EXCEEDED": QuotaExceeded}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def error_from_status(status: status_pb2.Status, item_id: int | None = None) -> RpcError:
    """Return the exception for a google.rpc.Status."""
    code = _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    return _build(code, status.message, status, item_id)


def error_from_call(error: Any, proxy: str = "") -> RpcError:
    """Return the exception for the grpc.RpcError that a call has raised.

    `proxy` is the host:port of the proxy that the call went through, or empty.
    """
    code = error.code() or grpc.StatusCode.UNKNOWN
    message = error.details() or ""
    too_large = _too_large(code, message)
    details = dict(iter(error.trailing_metadata() or ()))  # as pairs: keys() of older aio.Metadata does not give keys
    if DETAILS_KEY not in details:
        if too_large:
            return too_large
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return timed_out(message)._through(proxy)
        if code is not grpc.StatusCode.CANCELLED:
            return _build(code, message, status_pb2.Status(), None)._through(proxy)
    return _build(code, message, _parse_details(details.get(DETAILS_KEY)), None)


def timed_out(message: str = "") -> DeadlineExceeded:
    """Return the exception for a timeout that this client, rather than the server, noticed."""
    is_bare = message.lower() in ("", "deadline exceeded")  # the words of gRPC itself
    text = "the timeout passed before the answer came" if is_bare else message
    return DeadlineExceeded(text, reason=DEADLINE_REASON)


def with_callers_indexes(error: RpcError, index_of: Callable[[int], int]) -> RpcError:
    """Return the error with the indexes in its fields' paths replaced: `index_of` maps a message's to the caller's."""

    def renumbered(match: re.Match[str]) -> str:
        return f"{match[1]}[{index_of(int(match[2]))}]"

    error.fields = [FieldViolation(_INDEX.sub(renumbered, path), text) for path, text in error.fields]
    error.message = _INDEX.sub(renumbered, error.message)
    return error


def unexpected_response(message: str) -> Internal:
    """Return the exception for an answer that makes no sense."""
    return Internal(f"unexpected answer from the server: {message}", reason="UNEXPECTED_RESPONSE")


def parsed(message: T | None) -> T:
    """Return a message that grpc.aio has read, which is None where its bytes are no such message.

    Raises Internal then.
    """
    if message is None:
        raise unexpected_response("its bytes are no message of this rpc")
    return message


def request_too_large(message: str, fields: Iterable[FieldViolation] = ()) -> InvalidArgument:
    """Return the exception for a text or message above the server's limits."""
    return InvalidArgument(message, reason="REQUEST_TOO_LARGE", fields=fields)


def _too_large(code: grpc.StatusCode, message: str) -> InvalidArgument | None:
    """Return the exception for a message or metadata that gRPC itself found too large, or None.

    gRPC gives it the status of overload, although trying again cannot help.
    """
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
                retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9  # whatever they are
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
