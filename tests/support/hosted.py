"""Serve many models from one real frontend, with their workers' parts as threads of this process.

What a client sees is real: gRPC, the frontend's process, Unix sockets, queues, engines.
"""

from __future__ import annotations

import atexit
import itertools
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from bertstream.server.settings import FrontendSettings, Limits, ModelSettings
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.process import worker as process
from bertstream.workers.process.control import Ready, Settings, Started, Stop
from bertstream.workers.process.settings import WorkerSettings
from bertstream.workers.serving.queue import WorkQueue
from tests.support.led import led
from tests.support.ports import hold_port
from tests.support.ray_serve import Application, ray_server

LIMITS = Limits(
    max_texts=4096,
    max_request_bytes=1 << 24,
    max_message_bytes=1 << 26,
    max_response_bytes=1 << 26,
    stream_items=1024,
    stream_tokens=1 << 18,
    stream_bytes=1 << 26,
    concurrent_calls=1024,
)
_numbers = itertools.count()
through_ray = False  # whether all that can be is served behind Ray Serve instead (`pytest --ray`)


def needs_ray() -> None:
    """Skip a test that starts Ray, which takes a minute or more of two cores, unless that is asked for."""
    if not through_ray:
        pytest.skip("starts Ray: `make test-ray` runs it")
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'bertstream[ray]'")


@contextmanager
def hosted(models: Mapping[str, Path], cache: Path, folder: Path, http_port: int = -1, **limits: int) -> Iterator[str]:
    """Serve checkpoints by name; yield the address.

    folder: short-lived, with a short path, as sockets need. http_port: of JSON over HTTP; -1 for none.
    """
    if through_ray and http_port < 0:
        bounds = {**asdict(LIMITS), **limits}
        served = Application([f"{name}={path}" for name, path in models.items()], args=bounds)
        with ray_server([served], cache) as rays:
            yield rays.address
        return
    settings: list[ModelSettings] = []
    queues: list[WorkQueue] = []
    try:
        for name, checkpoint in models.items():
            compiled = compile_model(checkpoint, cache=cache)
            path = folder / f"{next(_numbers)}.socket"
            queues.append(_start(compiled, path))
            settings.append(ModelSettings(name, str(compiled), (str(path),), 1 << 20, serial=len(settings)))
        changed = Limits(**{**{name: getattr(LIMITS, name) for name in Limits.__dataclass_fields__}, **limits})
        with _frontend(tuple(settings), changed, http_port) as address:
            yield address
    finally:
        for queue in queues:
            queue.close()


def _start(compiled: Path, path: Path) -> WorkQueue:
    """Start a worker's parts, as threads."""
    settings = WorkerSettings(
        name=path.stem,
        directory=str(compiled),
        device="cpu",
        threads=torch.get_num_threads(),
        socket=str(path),
        running=str(path.with_suffix(".running")),
        batch_tokens=2048,
        queue_tokens=1 << 24,
        queue_seconds=30.0,
        session_bytes=1 << 26,
        cache_tokens=1 << 14,
    )
    return process.start(settings)[1]


@contextmanager
def _frontend(models: tuple[ModelSettings, ...], limits: Limits, http_port: int) -> Iterator[str]:
    settings = FrontendSettings(
        name="frontend",
        host="127.0.0.1",
        port=free_port(),
        http_port=http_port,
        version="0",
        models=models,
        limits=limits,
        tokenizer_threads=1,
        drain_seconds=5.0,
        worker_wait_seconds=5.0,
        log_level="warning",
    )
    with led("bertstream.server.frontend.process", settings.name) as frontend:
        assert frontend.heard() == Started()
        frontend.tell(Settings(settings))
        assert frontend.heard() == Ready()
        try:
            yield f"127.0.0.1:{settings.port}"
        finally:
            frontend.tell(Stop())
            with suppress(subprocess.TimeoutExpired):
                frontend.process.wait(30)


def free_port() -> int:
    """Return a port that nobody listens on, and that nobody else gets until this process ends."""
    held = hold_port()
    atexit.register(held.close)
    port: int = held.getsockname()[1]
    return port
