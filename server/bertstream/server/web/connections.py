"""Bound what connections of HTTP may do: how many there are, how slowly they send, and how little they read."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bertstream.server.settings import HANDSHAKE_SECONDS, ConnectionLimits


class BoundedConnection(H11Protocol):
    """A connection that is closed where it is one too many, sends its headers slowly, or reads nothing."""

    def __init__(self, limits: ConnectionLimits, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._began = self.silent_since = time.monotonic()
        self._head: asyncio.TimerHandle | None = None  # runs until the headers of a request are there
        self._stalled: asyncio.TimerHandle | None = None  # runs while the caller takes less than there is

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections and not self.make_room():
            transport.abort()
            return
        self._head = self.loop.call_later(HANDSHAKE_SECONDS, transport.abort)

    @property
    def is_silent(self) -> bool:
        """Return whether no request is under way here."""
        return bool(self.conn.their_state is h11.IDLE)

    def make_room(self) -> bool:
        """Return whether this connection may stay although it is one too many."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(self._head, self._stalled)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # what follows an answer that has gone out already is no HTTP
            self.transport.abort()
        self._bound_head()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP; whoever makes the answer to what came before writes it no more."""
        super().send_400_response(msg)
        cycle: Any = self.cycle  # None before the first request
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        self.silent_since = time.monotonic()
        super().on_response_complete()
        age = self._limits.connection_age_seconds
        if age and time.monotonic() - self._began > age:
            self.shutdown()
        self._bound_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        self._stop(self._stalled)
        super().resume_writing()

    def _bound_head(self) -> None:
        """Have the rest of headers that have begun come soon, however they are sent."""
        begun = self.is_silent and bool(self.conn.trailing_data[0])
        if not begun:
            self._stop(self._head)
            self._head = None
        elif self._head is None:
            self._head = self.loop.call_later(HANDSHAKE_SECONDS, self.transport.abort)

    def _watch_reader(self) -> None:
        """Close the connection if nothing is taken of what there is to read, for as long as that may be."""
        waiting = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() >= waiting:
                self.transport.abort()
            else:
                self._watch_reader()

        self._stop(self._stalled)
        self._stalled = self.loop.call_later(self._limits.stalled_seconds, look)

    @staticmethod
    def _stop(*timers: asyncio.TimerHandle | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()


class YieldingConnection(BoundedConnection):
    """A connection that makes room for a new one, where there are too many, if it has had no request for the longest.

    So who opens connections and says nothing keeps nobody else out.
    """

    def make_room(self) -> bool:
        """Close the connection that has been silent for the longest, and return whether there was one."""
        others = (each for each in self.connections if isinstance(each, BoundedConnection) and each is not self)
        oldest = min((each for each in others if each.is_silent), key=lambda each: each.silent_since, default=None)
        if oldest is None:
            return False
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True
