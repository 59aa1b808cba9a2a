"""The admin process: serves the admin port, and asks the supervisor for all that it shows.

Run as `python -m bertstream.server.admin.process NAME CONTROL_FD`. Nothing that serves calls waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from functools import partial

from msgspec import convert

from bertstream.server.admin.app import application
from bertstream.server.admin.gathering import Gatherings
from bertstream.server.messages import Gather, Gathered
from bertstream.server.settings import AdminSettings, ConnectionLimits
from bertstream.server.web.connections import YieldingConnection
from bertstream.server.web.serving import WebServer, listening, server_config
from bertstream.server.web.tls import RenewedContext
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
_LIMITS = ConnectionLimits(max_connections=256)


async def serve(settings: AdminSettings, control: ControlLine) -> None:
    """Serve, and push metrics where that is wanted, until the supervisor says to stop, or is gone."""
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
    config = server_config(
        application(settings, gatherings),
        tls,
        http=partial(YieldingConnection, _LIMITS),
        log_level="ERROR",  # below that it tells of callers' faults, which callers could repeat without end
        h11_max_incomplete_event_size=settings.max_header_bytes,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )
    server = WebServer(config, lambda: control.send(Ready()))

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
