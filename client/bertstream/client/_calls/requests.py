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
class StreamRequest(Generic[B]):
    """A stream that is yet to be opened."""

    rpc: str
    model: str
    codec: Callable[[Model | None], Any]
    config: StreamConfig
    progress: ProgressOption = False

    def stream(self, model: Model | None, reconnect_seconds: float) -> BulkStream[Any, B]:
        """Its state, for a model of this description (None: not known)."""
        self.config.limits, self.config.reconnect_seconds = stream_limits(model), reconnect_seconds
        return BulkStream(self.codec(model), self.config)


def with_interactive(given: dict[str, Any]) -> dict[str, Any]:
    """Options, with the priority of a call that someone waits for, where they do not say."""
    return {**given, "priority": given.get("priority") or "interactive"}


def stream_config(ordered: bool, on_error: OnError, batch_size: int, report: ReportOption) -> StreamConfig:
    """How a stream behaves. ValueError for what cannot be meant."""
    if on_error not in ("raise", "collect"):
        raise ValueError(f"on_error must be 'raise' or 'collect', not {on_error!r}")
    if batch_size < 1:
        raise ValueError("batch_size must be at least 1")
    return StreamConfig(ordered, on_error == "collect", batch_size, report)
