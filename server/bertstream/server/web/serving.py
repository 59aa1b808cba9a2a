"""uvicorn's server as a part of a process that is ours: its signals, its log and its end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from bertstream.server.web.tls import RenewedContext


class WebServer(uvicorn.Server):
    """uvicorn's server, which tells when it listens, and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listening(host: str, port: int) -> socket.socket:
    """Return a socket of the port that the supervisor holds for this process and those that share or replace it."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    # asyncio turns Nagle's algorithm off only where the protocol is named; else an answer's second packet waits 40 ms.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Else a connection that this end has closed keeps the port from the next server for a minute (TIME-WAIT).
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    return made


def server_config(
    app: Any, tls: RenewedContext | None, *, http: Any = "h11", log_level: str = "WARNING", **options: Any
) -> uvicorn.Config:
    """Return uvicorn's configuration; its log lines are ours, from this level on.

    app: of ASGI. http: what makes the protocol of a connection. options: further ones of uvicorn.
    """
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(log_level)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=http,
        loop="asyncio",
        server_header=False,
        proxy_headers=False,
        **options,
    )
    config.load()
    config.ssl = None if tls is None else tls.context
    return config
