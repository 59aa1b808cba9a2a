"""By default a real worker computes an interactive call on all cores that are idle, and bulk work on its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bertstream.client import Client
from bertstream.workers.serving.cores import SLOTS
from tests.support.server import Server, eventually, running

LONG = "encoders are here " * 300  # is cut to the model's length, which takes tens of milliseconds on one core

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core, and none to be idle")


@pytest.fixture(scope="module")
def adaptive(compile_cache: Path) -> Iterator[Server]:
    """Yield a server of the embedded model, with as many workers and threads as it chooses."""
    with running(["all-MiniLM-L6-v2"], cache=compile_cache) as server:
        yield server


def share(server: Server) -> Path:
    """Return the file in which workers say how many threads they compute with."""
    (found,) = {Path(each.path) for each in server.workers[0].memory_maps() if Path(each.path).name == "cores"}
    return found


@contextmanager
def watched(path: Path) -> Iterator[set[int]]:
    """Yield the set of all numbers of threads that a worker says while the body runs."""
    seen: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.001):
            seen.update(path.read_bytes()[:SLOTS])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_a_call_has_the_idle_cores_and_bulk_work_its_own(adaptive: Server) -> None:
    path = share(adaptive)
    with Client(adaptive.address) as client:
        with watched(path) as bulk:
            streamed = client.encode([LONG] * 16, priority="bulk")
        with watched(path) as interactive:
            called = list[np.ndarray]()

            def has_several() -> bool:
                """Call again where whoever watches had no core itself while the call was computed."""
                called.append(client.encode([LONG])[0])
                return max(interactive, default=0) >= 2

            eventually(has_several, "a call with several threads")
    assert max(bulk) == 1
    assert max(np.abs(streamed[0] - each).max() for each in called) < 1e-5
    eventually(lambda: not any(path.read_bytes()[:SLOTS]), "all workers to be idle")


def test_a_killed_worker_leaves_its_cores_to_others(adaptive: Server) -> None:
    path, before = share(adaptive), len(adaptive.workers)
    with Client(adaptive.address) as client, watched(path) as seen:
        killed = threading.Event()

        def encode() -> None:
            """Have workers compute until they are killed."""
            while not killed.is_set():
                client.encode([LONG] * 4)

        call = threading.Thread(target=encode)
        call.start()
        eventually(lambda: max(seen, default=0) > 0, "a worker to compute")
        for worker in adaptive.workers:
            worker.send_signal(signal.SIGKILL)
        killed.set()
        call.join(120)
        assert not call.is_alive()
    eventually(lambda: len(adaptive.workers) == before and not any(path.read_bytes()[:SLOTS]), "all to be idle again")
