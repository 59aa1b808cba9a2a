"""A frontend process: serves gRPC, and passes work to the workers.

Run as `python -m bertstream.server.frontend '{…}' CONTROL_FD` with FrontendSettings as JSON.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from bertstream.server.model import Models, ServedModel
from bertstream.server.rpc import add_service
from bertstream.server.services.encoding import EncodingService
from bertstream.server.services.models import ModelService
from bertstream.server.services.tokenization import TokenizationService
from bertstream.server.settings import FrontendSettings
from bertstream.v1 import encoding_pb2, models_pb2, tokenization_pb2
from bertstream.workers import logs
from bertstream.workers.control import ControlLine, Event

log = logging.getLogger(__name__)

ENCODING = encoding_pb2.DESCRIPTOR.services_by_name["EncodingService"]
TOKENIZATION = tokenization_pb2.DESCRIPTOR.services_by_name["TokenizationService"]
MODELS = models_pb2.DESCRIPTOR.services_by_name["ModelService"]
SERVICES = tuple(service.full_name for service in (ENCODING, TOKENIZATION, MODELS))
HEALTH_OF_MODEL = "models/"  # and the model's name


class Frontend:
    """One gRPC server and the models behind it."""

    def __init__(self, settings: FrontendSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.tokenizer_threads, "tokenizer")
        self._health = health.aio.HealthServicer()
        self._health_changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._served = [
            ServedModel(each, settings, self._threads, self._health_changed.set) for each in settings.models
        ]
        self._models = Models(self._served)

    def stop(self) -> None:
        """Begins to drain."""
        self._stop.set()

    async def run(self, control: ControlLine) -> None:
        """Serves until told to stop, then drains."""
        for model in self._served:
            await model.dispatcher.wait_live()
        server = self._server()
        await server.start()
        watching = asyncio.create_task(self._watch_health())
        control.send("ready")
        await self._stop.wait()
        watching.cancel()
        await self._health.enter_graceful_shutdown()
        # The grace gives calls under way their time; new ones are refused with UNAVAILABLE by gRPC itself.
        await server.stop(self._settings.drain_seconds)
        for model in self._served:
            await model.dispatcher.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _server(self) -> grpc.aio.Server:
        settings, limits = self._settings, self._settings.limits
        server = grpc.aio.server(
            maximum_concurrent_rpcs=limits.concurrent_calls,
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", limits.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # Clients that keep a silent stream alive by pings must not be taken for a flood.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        add_service(server, ENCODING, EncodingService(self._models), limits.max_request_bytes)
        add_service(server, TOKENIZATION, TokenizationService(self._models), limits.max_request_bytes)
        add_service(server, MODELS, ModelService(self._models, settings.version), limits.max_request_bytes)
        add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        server.add_insecure_port(f"{settings.host}:{settings.port}")
        return server

    async def _watch_health(self) -> None:
        """Keeps every status true to what lives: a model serves while a worker of its does, the server while all do."""
        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        while True:
            self._health_changed.clear()
            alive = {model.name: bool(model.dispatcher.live) for model in self._served}
            overall = serving if all(alive.values()) else not_serving
            await self._health.set(TOKENIZATION.full_name, serving)
            await self._health.set(MODELS.full_name, serving)
            for name in ("", ENCODING.full_name):
                await self._health.set(name, overall)
            for name, lives in alive.items():
                await self._health.set(HEALTH_OF_MODEL + name, serving if lives else not_serving)
            await self._health_changed.wait()


async def serve(settings: FrontendSettings, control_fd: int) -> None:
    """Runs one frontend, told what to do by its supervisor."""
    loop = asyncio.get_running_loop()
    frontend = Frontend(settings)
    control = ControlLine(control_fd)

    def answer(event: Event) -> None:
        if event["event"] == "ping":
            # Through the event loop, so that a loop that is stuck gives no sign of life.
            loop.call_soon_threadsafe(control.send, "pong")
        elif event["event"] == "stop":
            loop.call_soon_threadsafe(frontend.stop)

    def orphaned() -> None:
        loop.call_soon_threadsafe(frontend.stop)

    control.listen(answer, orphaned=orphaned)
    loop.add_signal_handler(signal.SIGTERM, frontend.stop)
    await frontend.run(control)


def main(argv: list[str]) -> int:
    """Serves until told to stop."""
    settings = FrontendSettings.from_json(argv[1])
    logs.setup(settings.name, settings.log_level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    try:
        asyncio.run(serve(settings, int(argv[2])))
    except Exception as error:  # told to the supervisor, which has a person to tell
        log.exception("the frontend failed")
        ControlLine(int(argv[2])).send("failed", message=f"{settings.name}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
