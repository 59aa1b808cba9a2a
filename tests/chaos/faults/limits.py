"""What a machine runs out of: memory, disk, descriptors; and a clock that jumps."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

import psutil

from bertstream.client import Client, Overloaded, RpcError
from tests.chaos import calls
from tests.chaos.faults.fault import Fault
from tests.chaos.scene import FAILS_ON, Scene, promise

DAY = 86400
_LONG = [list(range(1000, 1500))] * 60  # tokens of which a batch's states take some memory
_SPARE_FILES = 4  # that a frontend may open before it has none left


def text_out_of_memory(scene: Scene) -> None:
    """Send a text for which a worker's memory does not suffice, beside one for which it does."""
    (batch,) = scene.client.encode_stream([[5, 60], [5, FAILS_ON]], model=calls.FAULTY, on_error="collect")
    told = [(each.id, each.error.reason) for each in batch.errors]
    promise(told == [(1, "OUT_OF_MEMORY")], f"of a text of two, the second of which is too much, came {told}")


def worker_without_memory(scene: Scene) -> None:
    """Let a worker have no more memory than it has (RLIMIT_AS), and send it much."""
    (worker, *_) = scene.workers(calls.ENCODER)
    told_so = contextlib.suppress(Overloaded)  # its reason is OUT_OF_MEMORY
    with limited(worker, resource.RLIMIT_AS, worker.memory_info().vms), told_so:
        scene.client.encode(_LONG, model=calls.ENCODER, timeout=60)


def frontend_without_descriptors(scene: Scene) -> None:
    """Let frontends open no more files than they have, and connect to them again and again."""
    with contextlib.ExitStack() as stack:
        for frontend in scene.frontends:
            stack.enter_context(limited(frontend, resource.RLIMIT_NOFILE, frontend.num_fds() + _SPARE_FILES))
        for _ in range(100):
            stack.enter_context(_connection(scene.server.address))
        time.sleep(3)
        for frontend in scene.frontends:
            promise(frontend.is_running(), "a frontend without descriptors ended")
        promise(_spins(scene.frontends) < 90, "a frontend without descriptors spins")
    _connects(scene)


def disk_full(scene: Scene) -> None:
    """Let nothing be written (RLIMIT_FSIZE) while a model is loaded; then load it."""
    supervisor = psutil.Process(scene.server.process.pid)
    with limited(supervisor, resource.RLIMIT_FSIZE, 1024):
        try:
            scene.client.load_model("spare", "spare", workers=1, timeout=120)
        except RpcError as error:
            promise("\n" not in str(error) and "large" in str(error).lower(), f"a full disk is told as: {error}")
        else:
            promise(False, "a model was loaded although nothing could be written")
    scene.client.load_model("spare", "spare", workers=1, timeout=120)
    promise(scene.client.encode(["fox"], model="spare").shape == (1, 36), "the loaded model does not answer")
    scene.client.unload_model("spare", timeout=120)


def clock_jumps(scene: Scene) -> None:
    """Set the wall clock a day ahead, a day back, and ten years ahead; for each make calls with a deadline."""
    if scene.clock is None:
        return
    before = {each.pid for each in scene.server.workers}
    try:
        for ahead in (DAY, -DAY, 3650 * DAY):
            scene.clock.set_ahead(ahead)
            for _ in range(5):
                scene.client.encode(["fox"], model=calls.ENCODER, timeout=60)
                time.sleep(0.3)
    finally:
        scene.clock.set_ahead(0)
    promise({each.pid for each in scene.server.workers} == before, "a clock that jumped had workers replaced")


@contextlib.contextmanager
def limited(process: psutil.Process, kind: int, most: int) -> Iterator[None]:
    """Limit a running process, and take that back."""
    soft, hard = process.rlimit(kind)
    process.rlimit(kind, (most, hard))
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has been replaced
            process.rlimit(kind, (soft, hard))


@contextlib.contextmanager
def _connection(address: str) -> Iterator[socket.socket]:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as opened:
        yield opened


def _spins(processes: list[psutil.Process]) -> float:
    """Return how busy the busiest is, in percent of a core."""
    for each in processes:
        each.cpu_percent()
    time.sleep(1)
    return max(each.cpu_percent() for each in processes)


def _connects(scene: Scene) -> None:
    """Raise NotAsPromised where a new connection is not served."""
    try:
        with Client(scene.server.address, channels=1, max_message_bytes=(64 << 20) + 1) as client:
            client.encode(["fox"], model=calls.ENCODER, timeout=60)
    except RpcError as error:
        promise(False, f"a new connection is not served: {error}")


FAULTS = (
    Fault("text out of memory", text_out_of_memory, quick=True),
    Fault("worker without memory", worker_without_memory),
    Fault("frontend without descriptors", frontend_without_descriptors, quick=True),
    Fault("disk full", disk_full),
    Fault("clock jumps", clock_jumps, quick=True),
)
