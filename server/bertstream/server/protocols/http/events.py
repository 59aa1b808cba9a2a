"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from typing import Any

from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.http.answers import EVENTS, HttpAnswer, dumped
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.forms import own_error

ERROR = "error"  # the kind of the event that ends a stream which fails
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}  # the latter has nginx pass on events as they come


def event(kind: str, data: Any) -> bytes:
    """Return an event whose data are this value as JSON, which has no line breaks."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), dumped(data))


class EventStream:
    """The answer to a call that is a stream of events. A slow reader slows down what makes them, as each is awaited."""

    def __init__(self, call: HttpCall) -> None:
        self._call = call

    async def begin(self) -> None:
        """Begin the answer; what fails from now on is told by an event, the last one."""
        await self._call.begin(HttpAnswer((), media_type=EVENTS, headers=_HEADERS), _told)

    async def send(self, kind: str, data: Any, *, more: bool = True) -> None:
        """Send an event; the stream ends with one without `more`."""
        await self._call.write(event(kind, data), more=more)


def _told(error: RequestError) -> bytes:
    return event(ERROR, own_error(error))
