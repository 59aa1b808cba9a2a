"""Requests for streams, as the methods of both clients make them: checked at once, opened when first iterated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from bertstream.client._calls.lanes import Choose
from bertstream.client._calls.limits import stream_limits
from bertstream.client._calls.progress import ProgressOption
from bertstream.client._calls.stream import BulkStream, StreamConfig
from bertstream.client._reports import ReportOption
from bertstream.client._types import Model

B = TypeVar("B")

OnError: TypeAlias = Literal["raise", "collect"]


class Streamed(Protocol):
    """The settings of a client that streams depend on."""

    @property
    def reconnect_seconds(self) -> float:
        """How long to wait for a server to take a broken stream up again."""

    @property
    def lanes(self) -> int:
        """How many calls a stream may have."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a caller wants the answers of a stream. Raises ValueError for unusable values."""

    ordered: bool = True
    on_error: OnError = "raise"
    batch_size: int = 64
    progress: ProgressOption = False
    report: ReportOption = None

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "collect"):
            raise ValueError(f"on_error must be 'raise' or 'collect', not {self.on_error!r}")
        if self.batch_size < 1:
            raise ValueError("batch_size must be at least 1")


@dataclass(frozen=True, slots=True)
class StreamRequest(Generic[B]):
    """A stream that is yet to be opened."""

    rpc: str
    model: str
    codec: Callable[[Model | None], Any]
    delivery: Delivery

    def stream(self, model: Model | None, connection: Streamed, choose: Choose) -> BulkStream[Any, B]:
        """Return the stream's initial state, for a model with this description, or None if it is not known."""
        delivery = self.delivery
        config = StreamConfig(
            delivery.ordered,
            delivery.on_error == "collect",
            delivery.batch_size,
            delivery.report,
            stream_limits(model),
            connection.reconnect_seconds,
            connection.lanes,
        )
        return BulkStream(self.codec(model), config, choose)


def with_interactive(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the priority "interactive", unless they have one: someone waits for the answer."""
    return {**given, "priority": given.get("priority") or "interactive"}
