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

import numpy as np
import psutil

from bertstream.client import BertstreamError, Client
from tests.chaos.faults.fault import Fault
from tests.chaos.scene import Scene, gone, promise, wait_for
from tests.support.server import running

ENDED_SECONDS = 30.0
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
    folders = Path(os.environ.get("TMPDIR", "/tmp"))
    with running([f"spare={scene.roots / 'spare'}"], "--workers", "2", cache=scene.cache) as server:
        (folder,) = _folders_of(server.workers, folders)
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
    source = f"spare={scene.roots / 'spare'}"
    with running([source], "--workers", "1", cache=scene.cache) as server, Client(server.address) as client:
        expected, revision = client.encode(["fox"]), client.model().revision
    files = [each for each in scene.cache.glob("*/weights.bin") if _is_of(each.parent, revision)]
    for file in files or scene.cache.glob("*/weights.bin"):
        file.write_bytes(damage(file.read_bytes()))
    with running([source], "--workers", "1", cache=scene.cache) as server, Client(server.address) as client:
        promise(bool(np.array_equal(client.encode(["fox"]), expected)), "a damaged model gives other vectors")
        told = [each["message"] for each in server.records if each["level"] == "warning"]
    promise(any("weights.bin" in each for each in told), f"nothing tells of the damage: {told}")


def _is_of(folder: Path, revision: str) -> bool:
    return revision[:12] in folder.name


def _folders_of(workers: list[psutil.Process], folders: Path) -> set[Path]:
    """Return where workers have their sockets."""
    pids = {str(each.pid) for each in workers}
    listed = Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()
    paths = [Path(line.split()[-1]) for line in listed if f"{folders}/bertstream-" in line]
    return {path.parent for path in paths if pids and path.parent.parent == folders}


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
