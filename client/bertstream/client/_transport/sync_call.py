"""One streaming call of the synchronous client: two queues around gRPC's threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import grpc

from bertstream.client._calls.stream import BulkStream
from bertstream.client._errors import Internal, RpcError

END_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Response:
    """A message from the server, over one of a stream's calls."""

    lane: int
    message: Any

    def tell(self, stream: BulkStream[Any, Any]) -> None:
        """Pass the message to the stream."""
        stream.receive(self.message, self.lane)


@dataclass(frozen=True, slots=True)
class End:
    """The end of a call, with its error if there is one."""

    lane: int
    error: RpcError | None

    def tell(self, stream: BulkStream[Any, Any]) -> None:
        """Tell the stream that the call has ended."""
        stream.broken(self.error, self.lane)


class Inbox:
    """What has come over all calls of a stream, from the threads that read them."""

    def __init__(self) -> None:
        self._events: SimpleQueue[Response | End] = SimpleQueue()
        self._next: Response | End | None = None

    def put(self, event: Response | End) -> None:
        """Add an event."""
        self._events.put(event)

    def poll(self) -> Response | End | None:
        """Return the next event that has come, or None."""
        if self._next is not None:
            event, self._next = self._next, None
            return event
        try:
            return self._events.get_nowait()
        except Empty:
            return None

    def wait(self) -> None:
        """Wait until `poll` has an event."""
        self._next = self._events.get()


class StreamCall:
    """A call whose requests are sent by gRPC's own thread, and whose responses are read by another.

    So the caller's thread blocks only in `Inbox.wait`. The queues are bounded by the stream's windows, since no more is
    sent, and the server sends nothing that was not asked for.
    """

    def __init__(
        self, lane: int, inbox: Inbox, on_close: Callable[[], None], error_of: Callable[[Any], RpcError]
    ) -> None:
        self._lane, self._inbox = lane, inbox
        self._requests: SimpleQueue[Any] = SimpleQueue()
        self._on_close: Callable[[], None] | None = on_close
        self._error_of = error_of
        self._call: Any = None
        self._reader = threading.Thread(target=self._read, name="bertstream-stream", daemon=True)

    def start(self, rpc: Any, **arguments: Any) -> None:
        """Start the call."""
        self._call = rpc(iter(self._requests.get, None), **arguments)
        self._reader.start()

    def send(self, request: Any) -> None:
        """Send a request, as soon as flow control permits."""
        self._requests.put(request)

    def half_close(self) -> None:
        """Tell the server that no more requests come."""
        self._requests.put(None)

    def close(self, patient: bool = False) -> None:
        """End the call by cancelling it; with `patient`, for a call that is answered, wait a moment for its own end."""
        if patient:
            self._reader.join(END_SECONDS)
        if self._call is not None:
            self._call.cancel()
        self._requests.put(None)  # wakes gRPC's thread, which may wait for a request
        if self._on_close:
            self._on_close()
            self._on_close = None

    def _read(self) -> None:
        try:
            for message in self._call:
                self._inbox.put(Response(self._lane, message))
        except grpc.RpcError as error:
            self._end(self._error_of(error))
        except Exception as error:  # any error must reach the caller, who would otherwise wait forever
            self._end(Internal(f"the call failed: {error!r}"))
        else:
            self._end(None)

    def _end(self, error: RpcError | None) -> None:
        self._inbox.put(End(self._lane, error))
