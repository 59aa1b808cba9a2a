"""The processes of a run: bertstream's servers, and those in which peers/host.py runs an adapter."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import Choice, Settings

ROOT = Path(__file__).parents[1]
END_SECONDS = 60.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
_READY = re.compile(r"ready on (\S+)")


class Failed(Exception):
    """A process cannot do what it was asked; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a process to start, or to answer, in seconds."""

    start: float = 900.0
    answer: float = 600.0


PATIENT = Patience()


class Process:
    """A process that reads and writes lines, and ends with its input or when it is asked to."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        pipe, env = subprocess.PIPE, dict(environment)
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._log, cwd=ROOT, env=env)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._said = b""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def tell(self, line: str) -> None:
        """Write a line to the process. Raises Failed if it has ended."""
        try:
            self._stdin.write(line.encode() + b"\n")
            self._stdin.flush()
        except OSError:
            raise Failed(self._last_words()) from None

    def line(self, seconds: float) -> str:
        """Return the next line that the process writes. Raises Failed if there is none within these seconds."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._said:
            if not select.select([self._stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self._process.kill()
                raise Failed(f"no answer within {seconds:.0f} s")
            if not (part := os.read(self._stdout.fileno(), 1 << 20)):
                raise Failed(self._last_words())
            self._said += part
        line, self._said = self._said.split(b"\n", 1)
        return line.decode()

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):  # raised for lines that it did not read before it ended
            self._stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        self._log.close()

    def _last_words(self) -> str:
        status = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"the process ended with status {status}: {_message(lines[-1]) if lines else 'it said nothing'}"


def _message(line: str) -> str:
    """Return the message of a line of a log, which is JSON in bertstream's log."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    return str(record["message"]) if isinstance(record, dict) else line


class Server(Process):
    """A bertstream server, which chooses its threads itself. Raises Failed if it does not start."""

    def __init__(self, directory: Path, flags: Sequence[str], cache: Path, patience: Patience) -> None:
        variables = {name: value for name, value in os.environ.items() if name not in _THREADS}
        command = [sys.executable, "-m", "bertstream.cli", "serve", f"bench={directory}", *flags, "--port", "0"]
        super().__init__(command, {**variables, "BERTSTREAM_CACHE": str(cache)})
        try:
            said = self.line(patience.start)
            if not (found := _READY.search(said)):
                raise Failed(f"it said: {said}")
        except Failed as failed:
            self.close()
            raise Failed(f"the server did not start: {failed}") from None
        self.address = found[1]

    def close(self) -> None:
        """Stop the server."""
        self._process.terminate()
        super().close()


class Driver(Process):
    """A process with one adapter. `hello` is its first answer, once the adapter was loaded."""

    def __init__(
        self,
        python: Path,
        settings: Settings,
        extra: Mapping[str, str] | None = None,
        patience: Patience = PATIENT,
    ) -> None:
        command = [str(python), "-W", "ignore", "-m", "benchmarks.peers.host", json.dumps(asdict(settings))]
        super().__init__(command, environment(settings.threads, extra or {}))
        self._patience = patience
        try:
            self.hello = self.answer(patience.start)
        except Failed:
            self.close()
            raise

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packages that compute."""
        return dict(self.hello["versions"])

    @property
    def choices(self) -> list[Choice]:
        """The ways of feeding the adapter."""
        return [Choice(**choice) for choice in self.hello["choices"]]

    def send(self, do: str, **arguments: Any) -> None:
        """Send a command."""
        self.tell(json.dumps({"do": do, **arguments}))

    def answer(self, seconds: float | None = None) -> dict[str, Any]:
        """Return the answer to a command. Raises Failed."""
        answer: dict[str, Any] = json.loads(self.line(self._patience.answer if seconds is None else seconds))
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        self.send(do, **arguments)
        return self.answer()


def environment(threads: int, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process with this many threads, which downloads nothing and sends no telemetry."""
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "DO_NOT_TRACK": "1",
        "NNCF_CI": "1",  # no telemetry
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return {**os.environ, **dict.fromkeys(_THREADS, str(threads)), **quiet, **extra}


def together(drivers: Sequence[Driver], do: str, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Ask several processes the same at once, and return their answers."""
    for driver in drivers:
        driver.send(do, **arguments)
    return [driver.answer() for driver in drivers]
