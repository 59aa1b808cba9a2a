"""A frontend process: serves gRPC, and passes work to the workers.

Run as `python -m bertstream.server.frontend.process NAME CONTROL_FD`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2
from msgspec import convert

from bertstream.server.core.serving import ServingCore
from bertstream.server.frontend import accepting, channelz, links, orca, standard, transport
from bertstream.server.frontend.credentials import ServedCertificate
from bertstream.server.frontend.handling import DESCRIPTORS, NEED_WORKERS, SERVICES, all_handlers
from bertstream.server.frontend.http import HttpListener, open_endpoints
from bertstream.server.frontend.load import FrontendLoad
from bertstream.server.frontend.tracing import tracing_of
from bertstream.server.messages import (
    AwaitDrained,
    CallsLeft,
    ChangeOutcome,
    ForFrontend,
    ForSupervisor,
    ServeModels,
    UseKeys,
)
from bertstream.server.protocols.changes import Changes
from bertstream.server.protocols.http.app import HttpApp, links_of_http
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.served import Serving
from bertstream.server.protocols.http.served import endpoints as http_endpoints
from bertstream.server.protocols.inference import served as inference
from bertstream.server.protocols.interceptors.chain import Chain
from bertstream.server.protocols.interceptors.counting import CallMeasures
from bertstream.server.protocols.interceptors.links import Links
from bertstream.server.protocols.orca import SERVICE_NAME as ORCA_SERVICE
from bertstream.server.protocols.rpc import add_service, rpcs_of
from bertstream.server.protocols.tei_v1 import served as tei
from bertstream.server.settings import FrontendSettings
from bertstream.server.web.tls import RenewedContext
from bertstream.workers.measuring.snapshots import LastSnapshot, Snapshot, TakeSnapshot
from bertstream.workers.process.control import (
    Answer,
    ControlLine,
    Failed,
    Heard,
    Ping,
    Pong,
    Progress,
    Question,
    Ready,
    Reload,
    Stop,
    begin,
    call_in,
)
from bertstream.workers.process.garbage import settle

log = logging.getLogger(__name__)

_GOODBYE_SECONDS = 0.5  # for the last statuses to go out
HEALTH_OF_MODEL = "models/"  # followed by the model's name


class Frontend:
    """The doors to one core: a gRPC server, and HTTP where that is wanted."""

    def __init__(self, settings: FrontendSettings, control: ControlLine) -> None:
        self._settings = settings
        self._control = control
        self._health = health.aio.HealthServicer()
        self._health_changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._core = ServingCore(settings, self._health_changed.set)
        self._endpoints = self._http_endpoints()
        methods = (*rpcs_of(*DESCRIPTORS), *standard.METHODS, *(each.name for each in self._endpoints))
        self._measures = CallMeasures(self._core.registry, methods)
        self._load = self._load_reports()
        self._certificate = ServedCertificate(settings.tls) if settings.tls else None
        self._http_certificate = RenewedContext(settings.tls) if settings.tls and settings.http_port >= 0 else None
        self._tracing = tracing_of(settings)
        self._answering: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Begin to drain; when told again, by a signal or by the supervisor, report again how many calls are left."""
        if self._core.gate.closed:
            self._core.gate.close(self._tell_calls)
        self._stop.set()

    def _tell_calls(self, under_way: int) -> None:
        self._control.send(Progress(CallsLeft(under_way)))

    def reload(self) -> None:
        """Read the certificate's files again."""
        for certificate in (self._certificate, self._http_certificate):
            if certificate is not None:
                certificate.reload()

    def answer(self, question: Question) -> None:
        """Begin to do what the supervisor asks for; the answer goes out when it is done."""
        task = asyncio.create_task(self._answer(question))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, question: Question) -> None:
        value: Snapshot | None = None
        try:
            match convert(question.asked, ForFrontend):
                case TakeSnapshot():
                    value = self._core.registry.snapshot()
                case ServeModels(models=models):
                    await self._core.serve(models)
                    settle()
                case AwaitDrained(serials=serials):
                    await self._core.versions.drained(serials)
                case UseKeys(keys=keys):
                    self._core.keys.replace(keys)
        except Exception as error:  # the supervisor then leaves everything as it was
            log.exception("could not do what the supervisor asked for")
            self._control.send(Answer(question.id, error=str(error) or type(error).__name__))
        else:
            self._control.send(Answer(question.id, value))

    async def _ask(self, question: ForSupervisor) -> ChangeOutcome:
        return convert(await asyncio.wrap_future(self._control.ask(question)), ChangeOutcome)

    async def run(self) -> None:
        """Serve until told to stop, then drain."""
        await self._core.serve(self._settings.models)
        server, http = self._server(), self._http()
        await server.start()
        if http is not None:
            await http.start()
        settle()
        watching = asyncio.create_task(self._watch_health())
        self._control.send(Ready())
        await accepting.until_stopped(server, self._stop)
        watching.cancel()
        # Health turns first, so that balancers choose another server before this one refuses calls. The port stays open
        # while calls under way finish, so that health checks see the server drain, and new calls get a proper error.
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._settings.drain_notice_seconds)
        await self._core.drain(self._tell_calls)
        await asyncio.gather(server.stop(_GOODBYE_SECONDS), *([http.close()] if http else []))
        await self._core.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
        self._control.send(Progress(LastSnapshot(self._core.registry.snapshot())))
        self._core.end_threads()

    def _http_endpoints(self) -> Sequence[Endpoint]:
        settings = self._settings
        if settings.http_port < 0:
            return ()
        serving = Serving(self._core.models, settings.version, settings.tokenizer_threads, self._serves)
        return http_endpoints(serving)

    def _load_reports(self) -> FrontendLoad | None:
        settings = self._settings
        if not settings.load_reports:
            return None
        return FrontendLoad(self._core.models, self._core.gate, settings.queue_seconds)

    def _links(self, open_names: Collection[str], identified: Links = ()) -> Links:
        """Return the links that all calls pass, by whatever protocol they come."""
        return links.links_of(
            self._core.gate,
            self._core.keys,
            open_names,
            tracer=self._tracing.tracer if self._tracing else None,
            measures=self._measures,
            load=self._load,
            identified=identified,
        )

    def _http(self) -> HttpListener | None:
        """Return what serves JSON over HTTP, where that is wanted."""
        settings, endpoints = self._settings, self._endpoints
        if not endpoints:
            return None
        through = self._links(
            open_endpoints(endpoints, settings.keys), links_of_http(settings.limits, settings.connections)
        )
        return HttpListener(settings, HttpApp(endpoints, through), self._http_certificate, _GOODBYE_SECONDS)

    def _serves(self) -> bool:
        """Tell whether all models have a worker, and the server does not stop."""
        return not self._stop.is_set() and self._core.live

    def _server(self) -> grpc.aio.Server:
        settings, limits = self._settings, self._settings.limits
        chain = Chain(self._links(standard.open_services(settings.keys)), standard.SERVICES)
        server = accepting.server((chain,), transport.arguments(limits, settings.connections))
        changes = Changes(self._core.models, self._ask, settings.max_load_workers)
        for service, by_rpc in all_handlers(self._core.models, settings, changes).items():
            add_service(server, service, by_rpc, limits.max_request_bytes, settings.connections.stalled_seconds)
        self._add_standard(server, self._load)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host  # an IPv6 address
        if self._certificate is None:
            server.add_insecure_port(f"{host}:{settings.port}")
        else:
            server.add_secure_port(f"{host}:{settings.port}", self._certificate.credentials())
        if settings.admin_socket:
            listen_on(server, settings.admin_socket)
        return server

    def _add_standard(self, server: grpc.aio.Server, load: FrontendLoad | None) -> None:
        """Add the services that are not ours, and have reflection list all that are there."""
        standard.add_health(server, self._health)
        listed = [*SERVICES, health.SERVICE_NAME]
        if load is not None:
            orca.add_orca(server, load.measure)
            listed.append(ORCA_SERVICE)
        if self._settings.channelz or self._settings.keys is not None:
            channelz.add_channelz(server)
            listed.append(channelz.SERVICE_NAME)
        standard.add_reflection(server, listed, (*inference.FILES, *tei.FILES))

    async def _watch_health(self) -> None:
        """Keep the statuses up to date: a model serves while it has a live worker, the server while all models do."""
        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        known: set[str] = set()
        while True:
            self._health_changed.clear()
            alive = {model.name: bool(model.dispatcher.live) for model in self._core.models}
            overall = serving if all(alive.values()) else not_serving
            await self._health.set("", overall)
            for service in DESCRIPTORS:
                await self._health.set(service.full_name, overall if service in NEED_WORKERS else serving)
            for name, lives in alive.items():
                await self._health.set(HEALTH_OF_MODEL + name, serving if lives else not_serving)
            for name in known - alive.keys():
                await self._health.set(HEALTH_OF_MODEL + name, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            known |= alive.keys()
            await self._health_changed.wait()


def listen_on(server: grpc.aio.Server, path: str) -> None:
    """Take calls of this user on a Unix socket too, in place of one that a former life of this process has left."""
    Path(path).unlink(missing_ok=True)
    server.add_insecure_port(f"unix:{path}")  # which binds it
    Path(path).chmod(0o600)


async def serve(settings: FrontendSettings, control: ControlLine) -> None:
    """Run one frontend until its supervisor tells it to stop, or is gone."""
    accepting.keep_bytes_out_of_the_log()
    ports = 1 + (settings.http_port >= 0)
    transport.allow_connections(settings.connections.max_connections * ports)
    loop, frontend = asyncio.get_running_loop(), Frontend(settings, control)

    def take(message: Heard) -> None:
        """Handle a message in the event loop, so that pings stay unanswered while the loop is stuck."""
        match message:
            case Ping():
                control.send(Pong())
            case Stop():
                frontend.stop()
            case Reload():
                frontend.reload()
            case Question():
                frontend.answer(message)

    def hear(message: Heard) -> None:
        call_in(loop, take, message)

    def orphaned() -> None:
        """End at once: the workers do so too, so that no call can be answered, and the port must be free again.

        Nothing is logged, as a log that nobody reads any more would hold it up.
        """
        os._exit(1)

    control.listen(hear, orphaned)
    loop.add_signal_handler(signal.SIGTERM, frontend.stop)
    await frontend.run()


def main(argv: list[str]) -> int:
    """Serve until told to stop. Returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    control, settings = begin(argv, FrontendSettings)
    try:
        asyncio.run(serve(settings, control))
    except Exception as error:  # the supervisor shows it to a person
        log.exception("the frontend failed")
        control.send(Failed(f"{settings.name}: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
