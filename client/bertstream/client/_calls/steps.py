"""The steps that a bulk stream asks its transport to take, and what to tell the stream afterwards.

A stream may have several calls, each a lane with a number (`lanes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from bertstream.client._errors import RpcError

B = TypeVar("B", covariant=True)  # what the caller gets


@dataclass(frozen=True, slots=True)
class Open:
    """Open the call of a lane; then call `opened()`."""

    lane: int = 0


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for some seconds after this error, or call `fail()` with it where no time would be left then."""

    seconds: float
    error: RpcError


@dataclass(frozen=True, slots=True)
class Pull:
    """Take up to `count` texts from the caller's input; then call `add()`, and `end()` if there are no more."""

    count: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request."""

    request: Any
    lane: int = 0


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Tell the server that no more requests come."""

    lane: int = 0


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for a response of any call; then call `receive()`, or `broken()` if the call has ended."""


@dataclass(frozen=True, slots=True)
class Emit(Generic[B]):
    """Hand this to the caller."""

    batch: B


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish: everything is answered and handed out."""


Step: TypeAlias = Open | Sleep | Pull | Send | HalfClose | Receive | Emit[B] | Stop
