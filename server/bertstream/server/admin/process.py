"""The admin process: serves the admin port, and asks the supervisor for all that it shows.

Run as `python -m bertstream.server.admin.process NAME CONTROL_FD`. Nothing that serves calls waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from msgspec import convert
from starlette.applications import Starlette

from bertstream.server.admin.app import application
from bertstream.server.admin.gathering import Gatherings
from bertstream.server.admin.tls import RenewedContext
from bertstream.server.messages import Gather, Gathered
from bertstream.server.settings import AdminSettings
from bertstream.workers.process.control import (
    ControlLine,
    Failed,
    Heard,
    Ping,
    Pong,
    Ready,
    Reload,
    Stop,
    begin,
    call_in,
)

log = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 30
_GOODBYE_SECONDS = 1  # for answers under way when the process is told to stop; streams of events never end
_CONNECTIONS = 256  # requests at once; more are refused


class AdminServer(uvicorn.Server):
    """uvicorn's server, which tells when it listens, and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, control: ControlLine) -> None:
        super().__init__(config)
        self._control = control

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._control.send(Ready())

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listening(host: str, port: int) -> socket.socket:
    """Return a socket of the port that the supervisor holds for this process and those that replace it."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, port))
    return made


def server_config(app: Starlette, tls: RenewedContext | None) -> uvicorn.Config:
    """Return uvicorn's configuration; its log lines are ours."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )
    config.load()
    config.ssl = None if tls is None else tls.context
    return config


async def serve(settings: AdminSettings, control: ControlLine) -> None:
    """Serve, and push metrics where that is wanted, until the supervisor says to stop, or is gone."""
    logging.getLogger("uvicorn").setLevel("WARNING")
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    async def ask() -> Gathered:
        return convert(await asyncio.wrap_future(control.ask(Gather())), Gathered)

    gatherings = Gatherings(ask)
    tls = RenewedContext(settings.tls) if settings.tls else None

    def take(message: Heard) -> None:
        """Handle a message in the event loop, so that pings stay unanswered while the loop is stuck."""
        match message:
            case Ping():
                control.send(Pong())
            case Stop():
                stopped.set()
            case Reload() if tls is not None:
                tls.reload()

    def hear(message: Heard) -> None:
        call_in(loop, take, message)

    control.listen(hear, orphaned=lambda: os._exit(0))
    beside = [asyncio.create_task(gatherings.follow()), *_pushing(settings, gatherings)]
    try:
        if settings.port >= 0:
            await _serve_http(settings, gatherings, tls, control, stopped)
        else:
            control.send(Ready())
            await stopped.wait()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


def _pushing(settings: AdminSettings, gatherings: Gatherings) -> list[asyncio.Task[None]]:
    """Begin to push metrics, where that is wanted."""
    if settings.otlp is None:
        return []
    from bertstream.server.admin.otlp import metric_push  # OpenTelemetry is an extra

    return [asyncio.create_task(metric_push(settings.otlp, gatherings).run())]


async def _serve_http(
    settings: AdminSettings,
    gatherings: Gatherings,
    tls: RenewedContext | None,
    control: ControlLine,
    stopped: asyncio.Event,
) -> None:
    server = AdminServer(server_config(application(settings, gatherings), tls), control)

    async def end() -> None:
        await stopped.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve([listening(settings.host, settings.port)])
    finally:
        ending.cancel()


def main(argv: list[str]) -> int:
    """Serve until told to stop. Returns the exit code."""
    # The supervisor handles both signals: service managers signal all processes, and a drain should be seen to its end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control, settings = begin(argv, AdminSettings)
    try:
        asyncio.run(serve(settings, control))
    except Exception as error:  # the supervisor shows it to a person
        log.exception("the admin process failed")
        control.send(Failed(f"{settings.name}: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
