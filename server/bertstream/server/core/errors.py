"""Every error that a caller can get, by whatever protocol.

The reasons are part of the interface: they are listed in docs/protocol.md.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

NOT_UTF8 = "the bytes are not UTF-8"
MAX_VIOLATIONS = 20  # the details travel in a header, which clients limit to 8 KiB


class Code(enum.Enum):
    """The kind of an error: those of the canonical codes (google.rpc.Code) that the server answers with."""

    INVALID_ARGUMENT = enum.auto()
    DEADLINE_EXCEEDED = enum.auto()
    NOT_FOUND = enum.auto()
    RESOURCE_EXHAUSTED = enum.auto()
    FAILED_PRECONDITION = enum.auto()
    ABORTED = enum.auto()
    UNIMPLEMENTED = enum.auto()
    INTERNAL = enum.auto()
    UNAVAILABLE = enum.auto()
    UNAUTHENTICATED = enum.auto()
    PERMISSION_DENIED = enum.auto()


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field of a request."""

    field: str  # its path, such as "inputs.texts[3]"
    description: str


@dataclass(slots=True, eq=False)
class RequestError(Exception):
    """A request, or an item of a stream, that cannot be answered."""

    code: Code
    reason: str
    message: str
    violations: tuple[Violation, ...] = ()
    retry_seconds: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def invalid(path: str, description: str, reason: str = "INVALID_ARGUMENT") -> RequestError:
    """Return the error for one field that is wrong; `path` is relative to the request."""
    return invalid_fields([Violation(path, description)], reason)


def invalid_fields(violations: Iterable[Violation], reason: str = "INVALID_ARGUMENT") -> RequestError:
    """Return the error for several fields that are wrong."""
    listed = tuple(violations)
    more = f" (and {len(listed) - 1} more)" if len(listed) > 1 else ""
    where = f"{listed[0].field}: " if listed[0].field else ""
    message = f"{where}{listed[0].description}{more}"
    return RequestError(Code.INVALID_ARGUMENT, reason, message, listed[:MAX_VIOLATIONS])


def too_large(path: str, description: str) -> RequestError:
    """Return the error for a call that asks for more than one call may."""
    return invalid(path, description, "REQUEST_TOO_LARGE")


def not_utf8(path: str) -> RequestError:
    """Return the error for a text, at this path, that is not UTF-8."""
    return invalid(path, NOT_UTF8, "INVALID_UTF8")


def model_not_found(name: str, there: Iterable[str]) -> RequestError:
    """Return the error for a model that is not served."""
    names = ", ".join(there)
    return RequestError(
        Code.NOT_FOUND,
        "MODEL_NOT_FOUND",
        f"there is no model {name[:200]!r}; served: {names}",
        metadata={"models": names},
    )


def version_not_found(name: str, version: str) -> RequestError:
    """Return the error for a version of a model, where a name has no more than one."""
    about = f"the model {name!r} has no version {version[:20]!r}; leave it out, or name version '1'"
    return RequestError(Code.NOT_FOUND, "MODEL_NOT_FOUND", about, metadata={"models": name})


def method_not_found(name: str) -> RequestError:
    """Return the error for a call that does not exist; its name may be unknown, ""."""
    message = f"there is no method {name[:200]!r}" if name else "there is no method of the name that was called"
    return RequestError(Code.UNIMPLEMENTED, "METHOD_NOT_FOUND", message)


def not_available(message: str, reason: str = "OUTPUT_NOT_AVAILABLE") -> RequestError:
    """Return the error for an output or feature that the model does not have."""
    return RequestError(Code.FAILED_PRECONDITION, reason, message)


def head_not_available(head: str, there: Iterable[str]) -> RequestError:
    """Return the error for a task head that the checkpoint does not have."""
    names = ", ".join(there)
    message = f"this checkpoint has no head {head}; heads that it has: {names or 'none'}"
    return RequestError(
        Code.FAILED_PRECONDITION, "HEAD_NOT_AVAILABLE", message, metadata={"head": head, "heads": names}
    )


def not_suitable(message: str, path: str = "") -> RequestError:
    """Return the error for a checkpoint that has the head, but was not trained for this task.

    path: of the field that asks for it, where it is one field alone.
    """
    if not path:
        return not_available(message, "HEAD_NOT_SUITABLE")
    told = (Violation(path, message),)
    return RequestError(Code.FAILED_PRECONDITION, "HEAD_NOT_SUITABLE", f"{path}: {message}", told)


def checkpoint_not_found(message: str) -> RequestError:
    """Return the error for a checkpoint that is nowhere where LoadModel may look."""
    return RequestError(Code.NOT_FOUND, "CHECKPOINT_NOT_FOUND", message)


def not_loadable(message: str) -> RequestError:
    """Return the error for a checkpoint that does not compile, or whose workers do not start."""
    return RequestError(Code.FAILED_PRECONDITION, "MODEL_NOT_LOADABLE", message)


def key_required() -> RequestError:
    """Return the error for a call that does not say who calls."""
    message = "this server wants a key: send it as `authorization: Bearer KEY` (api_key=, --api-key)"
    return RequestError(Code.UNAUTHENTICATED, "KEY_REQUIRED", message)


def key_unknown(message: str) -> RequestError:
    """Return the error for a key that this server does not know, or no longer; `message` must not contain it."""
    return RequestError(Code.UNAUTHENTICATED, "KEY_UNKNOWN", message)


def role_not_allowed(role: str) -> RequestError:
    """Return the error for a key without the role that the call needs."""
    message = f"this call needs a key with the role {role!r}"
    return RequestError(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED", message, metadata={"role": role})


def model_not_allowed(name: str, allowed: Iterable[str]) -> RequestError:
    """Return the error for a key that is for other models."""
    names = ", ".join(allowed)
    message = f"this key is not for the model {name[:200]!r}; name one that it is for: {names}"
    return RequestError(Code.PERMISSION_DENIED, "MODEL_NOT_ALLOWED", message, metadata={"models": names})


def host_not_known(name: str) -> RequestError:
    """Return the error for a request to the admin port by a name that is not the server's."""
    message = f"this server is not known as {name[:200]!r}: use its address, or give it keys"
    return RequestError(Code.PERMISSION_DENIED, "HOST_NOT_KNOWN", message)


def origin_not_known() -> RequestError:
    """Return the error for a request to the admin port by a web page of another server."""
    return RequestError(Code.PERMISSION_DENIED, "ORIGIN_NOT_KNOWN", "this request is by a page of another server")


def not_gathered() -> RequestError:
    """Return the error for numbers of the admin port that the supervisor did not give in time."""
    return RequestError(Code.UNAVAILABLE, "NOT_GATHERED", "the supervisor does not answer", retry_seconds=1.0)


def quota_exceeded(message: str, retry_seconds: float) -> RequestError:
    """Return the error for a key whose quota is used up for now."""
    return RequestError(Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", message, retry_seconds=retry_seconds)


def overloaded(message: str, retry_seconds: float) -> RequestError:
    """Return the error for a call that comes when too much waits already."""
    return RequestError(Code.RESOURCE_EXHAUSTED, "OVERLOADED", message, retry_seconds=retry_seconds)


def out_of_memory() -> RequestError:
    """Return the error for a text that alone needs more memory than a worker has; the worker goes on."""
    return RequestError(
        Code.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY", "the worker's memory does not hold this text's computation"
    )


def worker_lost(message: str, retry_seconds: float = 2.0) -> RequestError:
    """Return the error for a call that no live worker could answer in time."""
    return RequestError(Code.UNAVAILABLE, "WORKER_LOST", message, retry_seconds=retry_seconds)


def model_replaced() -> RequestError:
    """Return the error for a call on an old version of the model that took longer than a drain may take."""
    message = "this version of the model is no longer served"
    return RequestError(Code.UNAVAILABLE, "MODEL_REPLACED", message, retry_seconds=0.1)


def draining() -> RequestError:
    """Return the error for a call that comes when the server is about to stop."""
    return RequestError(Code.UNAVAILABLE, "DRAINING", "the server is shutting down", retry_seconds=1.0)


def reader_stalled(seconds: float) -> RequestError:
    """Return the error for a caller that stopped reading its answer, which is not kept for ever."""
    message = f"nothing of the answer was taken for {seconds:g} s; read it without long pauses"
    return RequestError(Code.UNAVAILABLE, "READER_STALLED", message, retry_seconds=0.0)


def poisonous(deaths: int) -> RequestError:
    """Return the error for an input that kills workers."""
    return RequestError(
        Code.ABORTED, "POISONOUS_INPUT", f"{deaths} workers died computing this input; do not send it again"
    )


def deadline_exceeded(message: str = "the deadline passed before the work began") -> RequestError:
    """Return the error for work that was not done, or not to its end, since its deadline had passed."""
    return RequestError(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", message)


def body_late(seconds: float) -> RequestError:
    """Return the error for a request over HTTP whose body does not arrive."""
    return RequestError(Code.DEADLINE_EXCEEDED, "BODY_LATE", f"the body did not arrive within {seconds:g} s")


def body_encoded(encoding: str) -> RequestError:
    """Return the error for a request over HTTP whose body is compressed."""
    about = f"the body is encoded as {encoding[:80]!r}, which is not read here: send it as it is, without this header"
    return invalid("content-encoding", about, "BODY_ENCODED")


def internal() -> RequestError:
    """Return the error for a bug of the server's; the log has the rest, under the request's id."""
    return RequestError(Code.INTERNAL, "INTERNAL", "internal error; the server's log has it by request id")
