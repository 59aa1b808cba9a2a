"""The other end of peers/host.py: starts such a process and asks it."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import Choice, Settings

ROOT = Path(__file__).parents[1]
END_SECONDS = 40.0


class Failed(Exception):
    """A peer cannot do what it was asked; the message says why, in a line."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long anyone is waited for, in seconds."""

    start: float = 900.0
    answer: float = 600.0


PATIENT = Patience()


def environment(threads: int, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of a process that may use so many threads; nothing is fetched and nobody is told."""
    number = str(threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "DO_NOT_TRACK": "1",
        "NNCF_CI": "1",  # no telemetry
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return {**os.environ, **dict.fromkeys(names, number), **quiet, **(extra or {})}


class Driver:
    """One process with one adapter. `hello` is what it said once it was loaded."""

    def __init__(
        self,
        python: Path,
        settings: Settings,
        extra: Mapping[str, str] | None = None,
        patience: Patience = PATIENT,
    ) -> None:
        self._patience = patience
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        self.process = subprocess.Popen(
            [str(python), "-W", "ignore", "-m", "benchmarks.peers.host", json.dumps(asdict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            env=environment(settings.threads, extra),
        )
        assert self.process.stdout is not None
        self._buffer = b""
        try:
            self.hello = self.answer(patience.start)
        except BaseException:
            self.close()
            raise

    @property
    def versions(self) -> dict[str, str]:
        """Of what computes there."""
        return dict(self.hello["versions"])

    @property
    def choices(self) -> list[Choice]:
        """The ways of feeding it."""
        return [Choice(**choice) for choice in self.hello["choices"]]

    def send(self, do: str, **arguments: Any) -> None:
        """A command."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise Failed(self._ended()) from None

    def answer(self, seconds: float | None = None) -> dict[str, Any]:
        """Its answer. Raises Failed."""
        seconds = self._patience.answer if seconds is None else seconds
        answer: dict[str, Any] = json.loads(self._line(time.monotonic() + seconds, seconds))
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """A command and its answer."""
        self.send(do, **arguments)
        return self.answer()

    def close(self) -> None:
        """End it, and what it started."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._log.close()

    def _line(self, deadline: float, seconds: float) -> bytes:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.process.kill()
                    raise Failed(f"no answer within {seconds:.0f} s")
                part = os.read(self.process.stdout.fileno(), 1 << 20)
                if not part:
                    raise Failed(self._ended())
                self._buffer += part
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _ended(self) -> str:
        status = self.process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"the process ended with status {status}: {lines[-1] if lines else 'it said nothing'}"


def together(drivers: Sequence[Driver], do: str, arguments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ask several at once."""
    for driver, own in zip(drivers, arguments, strict=True):
        driver.send(do, **own)
    return [driver.answer() for driver in drivers]
