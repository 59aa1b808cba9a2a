"""Bound what is under way in a stream of items, and end it with one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bertstream.server.core.errors import RequestError
from bertstream.server.core.permits import Permits
from bertstream.server.protocols.call import Call, CallerGone

REQUEST_BYTES = 32 << 20  # of one stream's messages that are not answered yet: a few items can be large


class Window:
    """Bound one stream; `items`, `tokens` and `request_bytes` count what is under way."""

    def __init__(self, call: Call, items: int, tokens: int) -> None:
        self.items = Permits(items)
        self.tokens = Permits(tokens)
        self.request_bytes = Permits(REQUEST_BYTES)
        call.holding = self


@contextmanager
def ended_by_one_error() -> Iterator[None]:
    """Raise, for all errors of a group of asyncio's tasks, the one that the call ends with."""
    try:
        yield
    except BaseExceptionGroup as group:
        if group.subgroup(CallerGone):
            raise CallerGone from None
        error = group.subgroup(RequestError)
        if error is None:
            raise
        raise _first(error) from None


def _first(group: BaseExceptionGroup[RequestError]) -> RequestError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, RequestError)
    return error
