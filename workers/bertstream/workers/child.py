"""One child process of the supervisor: its life, its control line, and what it says over it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

log = logging.getLogger(__name__)

_LINE_BYTES = 1 << 20  # of one event; some error messages are long
_LAST_WORDS_SECONDS = 1.0  # a process that the child left behind may hold its line open


class Command(Protocol):
    """Makes the arguments after `python -m` for the child's n-th life."""

    def __call__(self, life: int, control_fd: int) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start, and when to think that it hangs."""

    name: str
    command: Command
    environment: Mapping[str, str]
    start_seconds: float = 600.0  # from its start until it is ready
    answer_seconds: float = 20.0  # from a ping until its pong
    computing_seconds: float = 120.0  # for one batch
    on_event: Callable[[dict[str, Any]], None] = lambda event: None  # told of "progress"


class ChildFailed(Exception):
    """A child ended, or was ended, before it was ready."""


class Child:
    """A running process."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process, ours: socket.socket) -> None:
        self.spec = spec
        self.pid = process.pid
        self.started = time.monotonic()
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.failure = ""  # what it said of why it could not start
        self._alive = True
        self._process = process
        self._line = ours
        self._unanswered_since: float | None = None
        self._computing_seconds = 0.0
        self._reader = asyncio.create_task(self._read(), name=f"control-{spec.name}")

    @classmethod
    async def start(cls, spec: ChildSpec, life: int) -> Child:
        """Starts a new interpreter: spawned, never forked, and in a group of its own, so that Ctrl-C is ours alone.

        Raises ChildFailed.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                process = await _spawn(spec, life, theirs.fileno())
        except OSError as error:
            ours.close()
            raise ChildFailed(f"{spec.name} cannot be started: {error}") from error
        return cls(spec, process, ours)

    async def wait(self) -> int:
        """The exit status, once the process is gone; negative for a signal's number."""
        status = await self._process.wait()
        self._alive = False
        await asyncio.wait((self._reader,), timeout=_LAST_WORDS_SECONDS)
        self._reader.cancel()
        self._line.close()
        if not self.ready.done():
            self.ready.set_exception(ChildFailed(self.failure or f"{self.spec.name} ended with {describe(status)}"))
            self.ready.exception()  # marks it as seen: nobody may be waiting
        return status

    def tell(self, event: str) -> None:
        """Sends one event; a child that does not read its line is found by the pings."""
        with contextlib.suppress(OSError):
            self._line.send(json.dumps({"event": event}).encode() + b"\n")

    def ping(self) -> None:
        """Asks for a sign of life, once it is ready: loading may take minutes within one call."""
        if not self.ready.done():
            return
        if self._unanswered_since is None:
            self._unanswered_since = time.monotonic()
        self.tell("ping")

    def hangs(self) -> str:
        """Why this child should be replaced; empty if it should not."""
        now, spec = time.monotonic(), self.spec
        if not self._alive:
            return ""
        if self._unanswered_since is not None and now - self._unanswered_since > spec.answer_seconds:
            return f"no answer for {spec.answer_seconds:.0f} s"
        if not self.ready.done() and now - self.started > spec.start_seconds:
            return f"not ready after {spec.start_seconds:.0f} s"
        if self._computing_seconds > spec.computing_seconds:
            return f"one batch has been computing for {self._computing_seconds:.0f} s"
        return ""

    def stop(self) -> None:
        """Has it drain and end; one that is not ready has nothing to drain."""
        if self.ready.done():
            self.tell("stop")
        else:
            self.kill()

    def kill(self, reason: str = "") -> None:
        """Ends it at once; nothing if it has ended, since its number may be another's by now."""
        if not self._alive:
            return
        if reason and not self.failure:
            self.failure = f"{self.spec.name} was ended: {reason}"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _read(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self._line.dup(), limit=_LINE_BYTES)
        try:
            while line := await reader.readline():
                self._handle(json.loads(line))
        except OSError:
            return
        except Exception:  # what a child says must not bring its supervisor down; its pongs will be missed
            log.exception("%s said what makes no sense", self.spec.name)
        finally:
            writer.close()

    def _handle(self, event: dict[str, Any]) -> None:
        if event["event"] == "pong":
            self._unanswered_since = None
            self._computing_seconds = float(event.get("computing_seconds", 0.0))
        elif event["event"] == "ready" and not self.ready.done():
            self.ready.set_result(event)
        elif event["event"] == "failed":
            self.failure = str(event["message"])
        elif event["event"] == "progress":
            self.spec.on_event(event)


async def _spawn(spec: ChildSpec, life: int, control_fd: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        *spec.command(life, control_fd),
        stdin=asyncio.subprocess.DEVNULL,
        env={**os.environ, **spec.environment},
        pass_fds=(control_fd,),
        process_group=0,
    )


def describe(status: int) -> str:
    """An exit status in words."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
