"""Requests for streams, as the methods of both clients make them: checked at once, opened when first iterated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, get_args

from bertstream.client._calls.lanes import Choose
from bertstream.client._calls.limits import stream_limits
from bertstream.client._calls.progress import ProgressOption, check_progress
from bertstream.client._calls.stream import BulkStream, StreamConfig
from bertstream.client._enums import check_name
from bertstream.client._fields import flag, whole
from bertstream.client._reports import ReportOption, check_report
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
    """How a caller wants the answers of a stream. Raises ValueError or TypeError for unusable values."""

    ordered: bool = True
    on_error: OnError = "raise"
    batch_size: int = 64
    progress: ProgressOption = False
    report: ReportOption = None

    def __post_init__(self) -> None:
        check_name(self.on_error, get_args(OnError), "on_error")
        flag(self.ordered, "ordered")
        whole(self.batch_size, "batch_size", 1)
        check_progress(self.progress)
        check_report(self.report)


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
    return {**given, "priority": "interactive" if given.get("priority") is None else given["priority"]}
