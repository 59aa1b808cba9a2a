"""Starts with something missing, and an end without any order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from bertstream.client import BertstreamError, Client
from bertstream.workers.compile.compiler import compile_model
from tests.chaos.faults.fault import Fault
from tests.chaos.scene import Scene, promise, wait_for
from tests.support.server import gone, running

ENDED_SECONDS = 15.0
_FLIPPED = 0x40  # a bit of a weight's exponent


def no_room_for_the_log(scene: Scene) -> None:
    """Start a server whose log cannot be written (/dev/full), and ask it."""
    source = f"spare={scene.roots / 'spare'}"
    command = [sys.executable, "-m", "bertstream.cli", "serve", source, "--port", "0", "--workers", "1"]
    environment = {**os.environ, "BERTSTREAM_CACHE": str(scene.cache)}
    with (
        Path("/dev/full").open("w", encoding="utf-8") as full,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=full, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            promise("ready on" in line, "a server that cannot log does not start")
            address = line.partition("ready on ")[2].split()[0]
            with Client(address) as client:
                promise(client.encode(["fox"]).shape == (1, 36), "a server that cannot log does not answer")
        finally:
            process.terminate()
            status = process.wait(60)
    promise(status == 0, f"a server that cannot log ended with status {status}")


def cache_cut_short(scene: Scene) -> None:
    """Start a server on a compiled model of which a file is only half there."""
    _damaged(scene, lambda content: content[: len(content) // 2])


def cache_bit_flipped(scene: Scene) -> None:
    """Start a server on a compiled model of which one bit is another."""
    _damaged(scene, lambda content: content[:-2] + bytes([content[-2] ^ _FLIPPED]) + content[-1:])


def supervisor_killed(scene: Scene) -> None:
    """Kill the supervisor under its callers: all of its processes end, and nothing of it stays behind."""
    with running([f"spare={scene.roots / 'spare'}"], "--workers", "2", cache=scene.cache) as server:
        folder = server.socket_folder()
        family = [psutil.Process(server.process.pid), *server.children()]
        ended: list[BaseException] = []
        threads = [threading.Thread(target=_ask_for_ever, args=(server.address, ended)) for _ in range(4)]
        for thread in threads:
            thread.start()
        server.stop(signal.SIGKILL)
        wait_for(lambda: all(map(gone, family)), "its processes to end", ENDED_SECONDS)
        for thread in threads:
            thread.join(ENDED_SECONDS)
        told = [str(error) for error in ended]
        promise(len(told) == 4, f"callers of a killed server were told {told}")
        promise(not _listens(server.address), "something still listens")
        wait_for(lambda: not folder.exists(), f"{folder.name} to be removed", 5.0)


def _damaged(scene: Scene, damage: Callable[[bytes], bytes]) -> None:
    checkpoint = scene.roots / "spare"
    file = compile_model(checkpoint, cache=scene.cache) / "weights.bin"
    expected, told = _served(checkpoint, scene.cache)
    promise(not told, f"before any damage there were complaints: {told}")
    file.write_bytes(damage(file.read_bytes()))
    found, told = _served(checkpoint, scene.cache)
    promise(bool(np.array_equal(found, expected)), "a damaged model gives other vectors")
    promise(any(str(file) in each for each in told), f"nothing tells of the damage: {told}")


def _served(checkpoint: Path, cache: Path) -> tuple[NDArray[Any], list[str]]:
    """Return what a server answers, and its warnings and errors."""
    with running([f"spare={checkpoint}"], "--workers", "1", cache=cache) as server, Client(server.address) as client:
        found: NDArray[Any] = np.asarray(client.encode(["fox"]))
    return found, [each["message"] for each in server.records if each["level"] in ("warning", "error")]


def _ask_for_ever(address: str, ended: list[BaseException]) -> None:
    try:
        with Client(address, reconnect_seconds=1, retries=0) as client:
            while True:
                client.encode(["fox"], timeout=20)
    except BertstreamError as error:
        ended.append(error)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((host, int(port))) == 0


FAULTS = (
    Fault("no room for the log", no_room_for_the_log),
    Fault("cache cut short", cache_cut_short),
    Fault("cache with a flipped bit", cache_bit_flipped),
    Fault("supervisor killed", supervisor_killed),
)
