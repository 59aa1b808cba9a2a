"""What differs between the rpcs that answer one request with a stream of events."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from bertstream.client._errors import RpcError
from bertstream.client._types import Model

E = TypeVar("E", covariant=True)  # what the caller gets


class Events(Protocol[E]):
    """Takes the messages of one call, and of those that take it up where it was broken off."""

    def receive(self, response: Any) -> E | None:
        """Return what the caller gets now, if anything. Raises Internal where the message makes no sense."""

    def broken(self, error: RpcError) -> float:
        """Return the seconds after which to ask again, where a call has failed. Raises the error where not to."""

    def ended(self) -> None:
        """Note that a call has ended well. Raises Internal where something is missing."""


class EventsRequest(Protocol[E]):
    """A stream of events that is yet to be opened."""

    @property
    def rpc(self) -> str:
        """The name of the rpc."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def needs_model(self) -> bool:
        """Whether the request depends on the model's description."""

    def message_for(self, model: Model | None) -> Any:
        """Return what the next call asks, of a model of this description (None: not known)."""

    def events(self, reconnect_seconds: float) -> Events[E]:
        """Return what takes the answers, and asks again for so long where the connection breaks."""
