"""Run a real server: the command line in a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bertstream.client import BertstreamError, Client

# Options of servers whose workers tests kill: on a machine with much else to do another one may take a minute to start.
WAITING = ("--worker-wait-seconds", "240")
_READY = re.compile(r"ready on (\S+)")
_HTTP = re.compile(r"HTTP at (\S+)")


@dataclass
class Server:
    """Hold a running `bertstream serve`."""

    process: subprocess.Popen[str]
    ready_line: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        found = _READY.search(self.ready_line)
        assert found is not None
        return found[1]

    @property
    def http_url(self) -> str:
        """Where it answers JSON over HTTP, without a slash at the end."""
        found = _HTTP.search(self.ready_line)
        assert found is not None
        return found[1]

    def children(self, name: str = "") -> list[psutil.Process]:
        """Return its live child processes, or those of one module: "workers.process" or "server.frontend"."""
        listed = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if name in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    listed.append(child)
            except psutil.Error:
                continue
        return listed

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return what it has logged so far.

        All of its standard error is the log, and every line of that is an object.
        """
        return [json.loads(line) for line in list(self.log)]

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Return the records of this message."""
        return [record for record in self.records if record["message"] == message]

    @property
    def workers(self) -> list[psutil.Process]:
        return self.children("bertstream.workers.process")

    def socket_folder(self) -> Path:
        """Where its workers listen."""
        sockets = [str(each.laddr) for each in self.workers[0].net_connections("unix")]
        (socket,) = {path for path in sockets if path.endswith(".socket")}
        return Path(socket).parent

    def memory(self) -> int:
        """Return the bytes resident in the server's processes that handle requests."""
        return sum(child.memory_info().rss for child in self.children("bertstream."))

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Send a signal, wait, and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def running(
    models: Sequence[str] = (),
    *options: str,
    cache: Path | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[Server]:
    """Start a server and stop it; fail with its log where it does not start."""
    command = [sys.executable, "-m", "bertstream.cli", "serve", *models, "--port", "0", *options]
    own = {"BERTSTREAM_CACHE": str(cache)} if cache else {}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **own, **(environment or {})},
    )
    server = Server(process)
    reader = threading.Thread(target=_collect, args=(process, server.log), daemon=True)
    reader.start()
    assert process.stdout is not None
    try:
        server.ready_line = process.stdout.readline()
        assert "ready on" in server.ready_line, f"the server did not start:\n{''.join(server.log)}"
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()
        reader.join(5)
        assert process.stderr is not None
        process.stderr.close()
    assert all(isinstance(record, dict) for record in server.records)


def _collect(process: subprocess.Popen[str], log: list[str]) -> None:
    assert process.stderr is not None
    while line := process.stderr.readline():
        log.append(line)


def busy(*processes: psutil.Process) -> Callable[[], bool]:
    """Return a function that tells whether one of them has computed for 0.2 s since this call.

    A share of the processor would tell more of what else runs on the machine.
    """
    before = [_cpu_seconds(process) for process in processes]
    return lambda: any(_cpu_seconds(each) > spent + 0.2 for each, spent in zip(processes, before, strict=True))


def _cpu_seconds(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def gone(process: psutil.Process) -> bool:
    """Return whether a process has ended, which it may do while it is looked at."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until the condition holds; fail after a long time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)


def answers(client: Client) -> bool:
    """Return whether the server answers at this moment, such as after a frontend has been killed."""
    try:
        return bool(client.health(timeout=1))
    except BertstreamError:
        return False
