"""What differs between the rpcs that answer one request with a stream of events."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from bertstream.client._errors import RpcError
from bertstream.client._types import Model

E = TypeVar("E", covariant=True)  # what the caller gets


class Events(Protocol[E]):
    """A receiver of the messages of one call."""

    def receive(self, response: Any) -> E | None:
        """Return what the caller gets now, if anything. Raises Internal if the message makes no sense."""

    def failed(self, error: RpcError) -> RpcError:
        """Return the exception to raise if the call has failed."""

    def ended(self) -> None:
        """Check that nothing is missing after a call that ended without an error. Raises Internal if something is."""


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
        """Return the request for a model with this description, or None if it is not known."""

    def events(self) -> Events[E]:
        """Return the receiver of the messages."""
