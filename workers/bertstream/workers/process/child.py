"""Control one child process of the supervisor: its life, and its control line."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bertstream.workers.process import control, strays
from bertstream.workers.process.control import (
    Answer,
    Failed,
    FromChild,
    NoAnswer,
    Ping,
    Pong,
    Progress,
    Question,
    Ready,
    Settings,
    Started,
    Stop,
    ToChild,
)

log = logging.getLogger(__name__)

_LINE_BYTES = 16 << 20  # of one message; a snapshot with thousands of callers is long
LAST_WORDS_SECONDS = 1.0  # a process that the child has left behind may hold its line open


async def _no_questions(asked: Any) -> object:
    raise NoAnswer("nobody answers questions of this child")


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """Say what to start, as `python -m MODULE NAME CONTROL_FD`, and when to assume that it hangs."""

    name: str
    module: str
    settings: Callable[[int], object]  # makes the settings of the child's n-th life, when it asks for them
    environment: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = 600.0  # from its start until it is ready
    answer_seconds: float = 20.0  # from a ping until its pong
    computing_seconds: float = 120.0  # for one batch
    on_progress: Callable[[Any], None] = lambda made: None
    on_question: Callable[[Any], Awaitable[object]] = _no_questions  # answers the child's questions
    on_death: Callable[[str], None] = lambda cause: None  # told why it ended, where it was not to end


class ChildFailed(Exception):
    """A child ended, or was ended, before it was ready, or before it answered.

    `step` is what it was doing, as far as it has said.
    """

    def __init__(self, message: str, step: str = "") -> None:
        super().__init__(message)
        self.step = step


class Child:
    """Control a running child process."""

    def __init__(
        self,
        spec: ChildSpec,
        life: int,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        output: int | None = None,
    ) -> None:
        self.spec = spec
        self.pid = process.pid
        self.started = time.monotonic()
        self.ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.failure = ""  # why it could not start, in the child's words
        self._failed_step = ""
        self._hung = False
        self.life = life  # how many processes of this name there were before
        self._alive = True
        self._process = process
        self._writer = writer
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._unanswered_since: float | None = None
        self._computing_seconds = 0.0
        self._readers = [asyncio.create_task(self._read(reader), name=f"control-{spec.name}")]
        if output is not None:
            self._readers.append(asyncio.create_task(strays.log_lines(output, spec.name), name=f"strays-{spec.name}"))

    @classmethod
    async def start(cls, spec: ChildSpec, life: int) -> Child:
        """Start a new interpreter: spawned, never forked, and in a group of its own, so that Ctrl-C is ours alone.

        Raises ChildFailed.
        """
        with contextlib.ExitStack() as opened:
            try:
                ours, theirs = socket.socketpair()
                opened.callback(ours.close)
                ours.setblocking(False)
                with theirs, strays.output() as output:
                    process = await spawn(spec, theirs.fileno(), output)
                    opened.callback(_kill_group, process.pid)
                    reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)
            except (
                Exception
            ) as error:  # no file, no memory, no process id, or no thread is left: RuntimeError says that
                raise ChildFailed(f"{spec.name} cannot be started: {error}") from error
            opened.pop_all()
        return cls(spec, life, process, reader, writer, output.pipe)

    @property
    def alive(self) -> bool:
        """Return whether the child has not ended yet."""
        return self._alive

    async def wait(self) -> int:
        """Return the exit status, once the process is gone; negative for a signal's number."""
        status = await self._process.wait()
        self._alive = False
        await asyncio.wait(self._readers, timeout=LAST_WORDS_SECONDS)
        for reader in self._readers:
            reader.cancel()
        self._writer.transport.abort()  # nobody reads what is still to be written
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        for waiting in (self.ready, *self._asked.values()):
            if not waiting.done():
                message = self.failure or f"{self.spec.name} ended with {describe(status)}"
                waiting.set_exception(ChildFailed(message, self._failed_step))
                waiting.exception()  # marks the exception as seen, since nobody may be waiting for it
        return status

    def cause(self, status: int) -> str:
        """Return why the child ended with this exit status, in one of few ways: to be counted by."""
        if self._hung:
            return "hang"
        return "failure" if self.failure else describe(status)

    def tell(self, message: ToChild) -> None:
        """Send one message; a child that does not read its line is found by the pings."""
        if not self._writer.is_closing():
            self._writer.write(control.encode(message))

    async def ask(self, question: object) -> Any:
        """Return the child's answer. Raises NoAnswer, and ChildFailed where the child ends first."""
        number = next(self._numbers)
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        if not self._alive:
            raise ChildFailed(f"{self.spec.name} has ended")
        self.tell(Question(number, question))
        try:
            return await asked
        finally:
            del self._asked[number]

    def ping(self) -> None:
        """Ask for a sign of life, if the child is ready; before that, loading may take minutes within one call."""
        if not self.ready.done():
            return
        if self._unanswered_since is None:
            self._unanswered_since = time.monotonic()
        self.tell(Ping())

    def hangs(self) -> str:
        """Return why this child should be replaced; "" if it should not."""
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
        """Have the child drain and end; a child that is not ready has nothing to drain."""
        if self.ready.done():
            self.tell(Stop())
        else:
            self.kill()

    def kill(self, reason: str = "") -> None:
        """End the child at once.

        Nothing happens if it has ended, since its process id may be another's by now.
        """
        if not self._alive:
            return
        self._hung = bool(reason)
        if reason and not self.failure:
            self.failure = f"{self.spec.name} was ended: {reason}"
        _kill_group(self.pid)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._handle(control.decode_from_child(line))
        except OSError:
            return
        except Exception:  # what a child says must not bring its supervisor down, nor be waited for in vain
            log.exception("%s said what makes no sense", self.spec.name)
            self.kill("it said what makes no sense; the log says more")

    def _handle(self, message: FromChild) -> None:
        match message:
            case Started():
                self._tell_settings()
            case Pong(computing_seconds=seconds):
                self._unanswered_since, self._computing_seconds = None, seconds
            case Ready(result=result) if not self.ready.done():
                self.ready.set_result(result)
            case Failed(message=text, step=step):
                self.failure, self._failed_step = text, step
            case Progress(made=made):
                self.spec.on_progress(made)
            case Answer():
                self._answered(message)
            case Question():
                task = asyncio.create_task(self._answer(message))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)

    def _tell_settings(self) -> None:
        try:
            self.tell(Settings(self.spec.settings(self.life)))
        except Exception:  # a child without settings would wait for them until it is assumed to hang
            log.exception("%s cannot be told its settings", self.spec.name)
            self.kill("it could not be told its settings; the log says more")

    def _answered(self, answer: Answer) -> None:
        asked = self._asked.get(answer.id)
        if asked is None or asked.done():
            return
        if answer.error:
            asked.set_exception(NoAnswer(answer.error))
        else:
            asked.set_result(answer.value)

    async def _answer(self, question: Question) -> None:
        """Answer what the child asks.

        This goes on if the child ends meanwhile, since others may wait for the result.
        """
        try:
            answer = Answer(question.id, await self.spec.on_question(question.asked))
        except NoAnswer as error:
            answer = Answer(question.id, error=str(error))
        except Exception:
            log.exception("%s got no answer", self.spec.name)
            answer = Answer(question.id, error="internal error")
        self.tell(answer)


async def spawn(spec: ChildSpec, control_fd: int, output: strays.Output) -> asyncio.subprocess.Process:
    """Start a child's interpreter. Raises OSError, and RuntimeError where no thread is left to watch it."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        spec.module,
        spec.name,
        str(control_fd),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output.fd,
        stderr=output.fd,
        env={**os.environ, **spec.environment, **output.environment},
        pass_fds=(control_fd, *output.inherited),
        start_new_session=True,  # a group of its own; by this name, as uvloop's loops, which Ray brings, know no other
    )


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def describe(status: int) -> str:
    """Describe an exit status in words."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
