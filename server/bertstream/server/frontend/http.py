"""The frontend's port of HTTP, in the event loop that serves gRPC: how it listens, and who calls."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Any

from bertstream.server.certificates import subjects_of
from bertstream.server.protocols.http import health
from bertstream.server.protocols.http.app import HttpApp
from bertstream.server.protocols.http.call import SUBJECTS
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.interceptors.links import Kind
from bertstream.server.settings import FrontendSettings, KeysSettings
from bertstream.server.web.connections import BoundedConnection
from bertstream.server.web.serving import WebServer, listening, server_config
from bertstream.server.web.tls import RenewedContext

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
            http=partial(IdentifiedConnection, limits),
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


class IdentifiedConnection(BoundedConnection):
    """A connection that tells the names of the client's certificate."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted is not None:
            self.app_state = {**self.app_state, SUBJECTS: subjects_of(encrypted.getpeercert() or {})}
