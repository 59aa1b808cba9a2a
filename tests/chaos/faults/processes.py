"""Processes of the server that end, stop, or hang."""

from __future__ import annotations

import psutil

from bertstream.client import Aborted, RpcError
from tests.chaos import calls
from tests.chaos.faults.fault import Fault
from tests.chaos.scene import HANGS_ON, Scene, promise, wait_for
from tests.support.server import gone

STOPPED_SECONDS = 60.0  # within which a process that was stopped must have been replaced


def worker_killed(scene: Scene) -> None:
    """Kill one of two workers of a model."""
    _kill(scene.workers(calls.ENCODER)[:1])


def only_worker_killed(scene: Scene) -> None:
    """Kill the only worker of a model, which generates."""
    _kill(scene.workers(calls.DECODER))


def all_workers_killed(scene: Scene) -> None:
    """Kill all workers of all models at once."""
    _kill(scene.server.workers)


def frontend_killed(scene: Scene) -> None:
    """Kill one of two frontends."""
    _kill(scene.frontends[:1])


def all_frontends_killed(scene: Scene) -> None:
    """Kill all frontends at once."""
    _kill(scene.frontends)


def worker_stopped(scene: Scene) -> None:
    """Stop a worker (SIGSTOP), which then answers no pings."""
    _stop(scene.workers(calls.ENCODER)[0])


def frontend_stopped(scene: Scene) -> None:
    """Stop a frontend (SIGSTOP), which then answers neither pings nor calls."""
    _stop(scene.frontends[0])


def input_that_hangs(scene: Scene) -> None:
    """Send a text on which the only worker of a model hangs."""
    try:
        scene.client.encode([[5, HANGS_ON, 6]], model=calls.FAULTY, timeout=120)
    except Aborted as error:
        promise(error.reason == "POISONOUS_INPUT", f"the text that hangs got {error.reason}")
    except RpcError as error:
        promise(False, f"the text that hangs got {error.status} {error}")
    else:
        promise(False, "the text that hangs was answered")


def _kill(victims: list[psutil.Process]) -> None:
    promise(bool(victims), "there was no process to kill")
    for each in victims:
        each.kill()
    wait_for(lambda: all(map(gone, victims)), "killed processes to be gone")


def _stop(victim: psutil.Process) -> None:
    victim.suspend()
    wait_for(lambda: gone(victim), "a stopped process to be replaced", STOPPED_SECONDS)


FAULTS = (
    Fault("worker killed", worker_killed, quick=True),
    Fault("only worker killed", only_worker_killed, quick=True),
    Fault("all workers killed", all_workers_killed),
    Fault("frontend killed", frontend_killed, quick=True),
    Fault("all frontends killed", all_frontends_killed),
    Fault("worker stopped", worker_stopped),
    Fault("frontend stopped", frontend_stopped),
    Fault("input that hangs", input_that_hangs),
)
