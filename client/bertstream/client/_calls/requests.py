"""Streams as the methods of both clients ask for them: checked at once, opened when first iterated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from bertstream.client._calls.limits import stream_limits
from bertstream.client._calls.progress import ProgressOption
from bertstream.client._calls.stream import BulkStream, StreamConfig
from bertstream.client._reports import ReportOption
from bertstream.client._types import Model

B = TypeVar("B")

OnError: TypeAlias = Literal["raise", "collect"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a caller wants the answers of a stream. ValueError for what cannot be meant."""

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

    def stream(self, model: Model | None, reconnect_seconds: float) -> BulkStream[Any, B]:
        """Its state, for a model of this description (None: not known)."""
        wanted = self.delivery
        config = StreamConfig(
            wanted.ordered,
            wanted.on_error == "collect",
            wanted.batch_size,
            wanted.report,
            stream_limits(model),
            reconnect_seconds,
        )
        return BulkStream(self.codec(model), config)


def with_interactive(given: dict[str, Any]) -> dict[str, Any]:
    """Options, with the priority of a call that someone waits for, where they do not say."""
    return {**given, "priority": given.get("priority") or "interactive"}
