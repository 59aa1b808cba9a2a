"""The frontend's port of HTTP, in the event loop that serves gRPC: how it listens, and what connections may do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bertstream.server.certificates import subjects_of
from bertstream.server.frontend.transport import HANDSHAKE_SECONDS
from bertstream.server.protocols.http import health
from bertstream.server.protocols.http.app import HttpApp
from bertstream.server.protocols.http.call import SUBJECTS
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.interceptors.links import Kind
from bertstream.server.settings import ConnectionLimits, FrontendSettings, KeysSettings
from bertstream.server.web.serving import WebServer, listening, server_config
from bertstream.server.web.tls import RenewedContext

HEAD_SECONDS = HANDSHAKE_SECONDS  # from the first byte of a request until its headers are there
_EVER = 10**9  # seconds


class HttpListener:
    """Serves the endpoints until it is closed."""

    def __init__(
        self,
        settings: FrontendSettings,
        app: HttpApp,
        tls: RenewedContext | None,
        goodbye_seconds: float,
    ) -> None:
        limits = settings.connections
        config = server_config(
            app,
            tls,
            http=partial(BoundedConnection, limits),
            log_level="CRITICAL",  # what it says of callers' faults, callers could say without end
            h11_max_incomplete_event_size=limits.max_header_bytes,
            timeout_keep_alive=limits.connection_idle_seconds or _EVER,
            timeout_graceful_shutdown=goodbye_seconds,
        )
        self._settings = settings
        self._listening = asyncio.Event()
        self._server = WebServer(config, self._listening.set)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen from now on."""
        socket = listening(self._settings.host, self._settings.http_port)
        self._serving = asyncio.create_task(self._server.serve([socket]))
        waiting = asyncio.create_task(self._listening.wait())
        await asyncio.wait((self._serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._serving.done():
            self._serving.result()

    async def close(self) -> None:
        """Close the port, and end what is still under way after the seconds for goodbyes."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


def open_endpoints(endpoints: Collection[Endpoint], keys: KeysSettings | None) -> tuple[str, ...]:
    """Return the names of the endpoints that need no key, where others do: those that tell nothing of its models."""
    if keys is None:
        return ()
    standard = [each for each in endpoints if each.kind is Kind.STANDARD]
    return tuple(each.name for each in standard if keys.open_health or each.path != health.PATH)


class BoundedConnection(H11Protocol):
    """A connection that is closed where it is one too many, sends its headers slowly, or reads nothing."""

    def __init__(self, limits: ConnectionLimits, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._began = time.monotonic()
        self._head: asyncio.TimerHandle | None = None  # runs until the headers of a request are there
        self._stalled: asyncio.TimerHandle | None = None  # runs while the caller takes less than there is

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            transport.abort()
            return
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted is not None:
            self.app_state = {**self.app_state, SUBJECTS: subjects_of(encrypted.getpeercert() or {})}
        self._head = self.loop.call_later(HEAD_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(self._head, self._stalled)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # what follows an answer that has gone out already is no HTTP
            self.transport.abort()
        self._bound_head()

    def on_response_complete(self) -> None:
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
        begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if not begun:
            self._stop(self._head)
            self._head = None
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

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
