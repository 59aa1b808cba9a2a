"""Every error that a caller can get, whatever protocol tells it.

The reasons are part of the interface: they are listed in docs/protocol.md.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

NOT_UTF8 = "the bytes are not UTF-8"
MAX_VIOLATIONS = 20  # the details travel in a header, which clients limit to 8 KiB


class Code(enum.Enum):
    """What kind of error it is: those of the canonical codes (google.rpc.Code) that the server answers with."""

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
    """One field is wrong; `path` is relative to the request."""
    return invalid_fields([Violation(path, description)], reason)


def invalid_fields(violations: Iterable[Violation], reason: str = "INVALID_ARGUMENT") -> RequestError:
    """Several fields are wrong."""
    listed = tuple(violations)
    more = f" (and {len(listed) - 1} more)" if len(listed) > 1 else ""
    where = f"{listed[0].field}: " if listed[0].field else ""
    message = f"{where}{listed[0].description}{more}"
    return RequestError(Code.INVALID_ARGUMENT, reason, message, listed[:MAX_VIOLATIONS])


def too_large(path: str, description: str) -> RequestError:
    """One call asks for more than one call may."""
    return invalid(path, description, "REQUEST_TOO_LARGE")


def not_utf8(path: str) -> RequestError:
    """Return the text at this path is not UTF-8."""
    return invalid(path, NOT_UTF8, "INVALID_UTF8")


def model_not_found(name: str, there: Iterable[str]) -> RequestError:
    """No such model."""
    names = ", ".join(there)
    return RequestError(
        Code.NOT_FOUND,
        "MODEL_NOT_FOUND",
        f"there is no model {name[:200]!r}; served: {names}",
        metadata={"models": names},
    )


def method_not_found(name: str) -> RequestError:
    """No such call."""
    return RequestError(Code.UNIMPLEMENTED, "METHOD_NOT_FOUND", f"there is no method {name[:200]!r}")


def not_available(message: str, reason: str = "OUTPUT_NOT_AVAILABLE") -> RequestError:
    """Return the model lacks what is asked of it."""
    return RequestError(Code.FAILED_PRECONDITION, reason, message)


def head_not_available(head: str, there: Iterable[str]) -> RequestError:
    """Return the checkpoint has no such task head."""
    names = ", ".join(there)
    message = f"this checkpoint has no head {head}; heads that it has: {names or 'none'}"
    return RequestError(
        Code.FAILED_PRECONDITION, "HEAD_NOT_AVAILABLE", message, metadata={"head": head, "heads": names}
    )


def checkpoint_not_found(message: str) -> RequestError:
    """Nowhere that LoadModel may look."""
    return RequestError(Code.NOT_FOUND, "CHECKPOINT_NOT_FOUND", message)


def not_loadable(message: str) -> RequestError:
    """Return the checkpoint does not compile, or its workers do not start."""
    return RequestError(Code.FAILED_PRECONDITION, "MODEL_NOT_LOADABLE", message)


def key_required() -> RequestError:
    """Nothing says who calls."""
    message = "this server wants a key: send it as `authorization: Bearer KEY` (api_key=, --api-key)"
    return RequestError(Code.UNAUTHENTICATED, "KEY_REQUIRED", message)


def key_unknown(message: str) -> RequestError:
    """Return what is shown is no key of this server, or is none any more. The message must not have it."""
    return RequestError(Code.UNAUTHENTICATED, "KEY_UNKNOWN", message)


def role_not_allowed(role: str) -> RequestError:
    """Return the caller's key has not the role that the call needs."""
    message = f"this call needs a key with the role {role!r}"
    return RequestError(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED", message, metadata={"role": role})


def model_not_allowed(name: str, allowed: Iterable[str]) -> RequestError:
    """Return the caller's key is for other models."""
    names = ", ".join(allowed)
    message = f"this key is not for the model {name[:200]!r}; name one that it is for: {names}"
    return RequestError(Code.PERMISSION_DENIED, "MODEL_NOT_ALLOWED", message, metadata={"models": names})


def quota_exceeded(message: str, retry_seconds: float) -> RequestError:
    """Return the caller's key has had its share for now."""
    return RequestError(Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", message, retry_seconds=retry_seconds)


def overloaded(message: str, retry_seconds: float) -> RequestError:
    """Too much waits already."""
    return RequestError(Code.RESOURCE_EXHAUSTED, "OVERLOADED", message, retry_seconds=retry_seconds)


def out_of_memory() -> RequestError:
    """Return the worker lives, but this alone is more than its memory holds."""
    return RequestError(
        Code.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY", "the worker's memory does not hold this text's computation"
    )


def worker_lost(message: str, retry_seconds: float = 2.0) -> RequestError:
    """No live worker could answer in time."""
    return RequestError(Code.UNAVAILABLE, "WORKER_LOST", message, retry_seconds=retry_seconds)


def model_replaced() -> RequestError:
    """Return this version of the model has waited for its calls for as long as a drain may take.

    The next is there already.
    """
    message = "this version of the model is no longer served"
    return RequestError(Code.UNAVAILABLE, "MODEL_REPLACED", message, retry_seconds=0.1)


def draining() -> RequestError:
    """Return the server is about to stop."""
    return RequestError(Code.UNAVAILABLE, "DRAINING", "the server is shutting down", retry_seconds=1.0)


def reader_stalled(seconds: float) -> RequestError:
    """Return the caller takes nothing of an answer that waits for it; what was computed for it is not kept for ever."""
    message = f"nothing of the answer was taken for {seconds:g} s; read it without long pauses"
    return RequestError(Code.UNAVAILABLE, "READER_STALLED", message, retry_seconds=0.0)


def poisonous(deaths: int) -> RequestError:
    """Return this input kills workers."""
    return RequestError(
        Code.ABORTED, "POISONOUS_INPUT", f"{deaths} workers died computing this input; do not send it again"
    )


def deadline_exceeded() -> RequestError:
    """Too late; the work was not done."""
    return RequestError(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the deadline passed before the work began")


def internal() -> RequestError:
    """Return a bug of ours; the log has the rest, under the request's id."""
    return RequestError(Code.INTERNAL, "INTERNAL", "internal error; the server's log has it by request id")
