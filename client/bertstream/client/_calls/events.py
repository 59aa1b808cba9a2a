"""What differs between the rpcs that answer one request with a stream of events."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from bertstream.client._errors import RpcError
from bertstream.client._types import Model

E = TypeVar("E", covariant=True)  # what the caller gets


class Events(Protocol[E]):
    """Takes the messages of one call."""

    def receive(self, response: Any) -> E | None:
        """What the caller gets now, if anything. Raises Internal where the message makes no sense."""

    def failed(self, error: RpcError) -> RpcError:
        """What to raise where the call has failed."""

    def ended(self) -> None:
        """The call has ended well. Raises Internal where something is missing."""


class EventsRequest(Protocol[E]):
    """A stream of events that is yet to be opened."""

    @property
    def rpc(self) -> str:
        """Its name."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def needs_model(self) -> bool:
        """Whether the request depends on the model's description."""

    def message_for(self, model: Model | None) -> Any:
        """The request, for a model of this description (None: not known)."""

    def events(self) -> Events[E]:
        """What takes the answers."""
