"""Exchange messages between the supervisor and a child: JSON objects, one a line, over a socket pair.

A child first asks for its settings, since a command line can be read by all on the machine. Later either side may ask.
Questions, answers and progress are understood only by those who exchange them: they are given as structs, dataclasses
and what these are made of, and arrive as plain JSON, which `msgspec.convert` turns into the same types. The child
learns from the line's end that its supervisor is gone, however it went, and must not outlive it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from bertstream.workers.process import logs

if TYPE_CHECKING:
    import asyncio


class ChildSettings(Protocol):
    """Define what the settings of any child have."""

    @property
    def log_level(self) -> str: ...


T = TypeVar("T")
S = TypeVar("S", bound=ChildSettings)

log = logging.getLogger(__name__)

_GONE = "the supervisor is gone"


class Started(Struct, frozen=True, tag=True):
    """Say that the child is there, and wants its settings; this is its first message."""


class Settings(Struct, frozen=True, tag=True):
    """Give the child its settings; this is the first message to it."""

    values: Any


class Ready(Struct, frozen=True, tag=True):
    """Say that the child has started, and with what result."""

    result: Any = None


class Failed(Struct, frozen=True, tag=True):
    """Say why the child cannot start, in words for people."""

    message: str
    step: str = ""  # what it was doing


class Progress(Struct, frozen=True, tag=True):
    """Say how far the child is with its task."""

    made: Any


class Ping(Struct, frozen=True, tag=True):
    """Ask for a sign of life; only for a child that is ready."""


class Pong(Struct, frozen=True, tag=True):
    """Give the sign of life."""

    computing_seconds: float = 0.0  # of the current batch so far


class Stop(Struct, frozen=True, tag=True):
    """Tell the child to drain and end; only for a child that is ready."""


class Reload(Struct, frozen=True, tag=True):
    """Tell the child to read again the files that it follows; only for a child that is ready."""


class Question(Struct, frozen=True, tag=True):
    """Ask the other side something."""

    id: int  # unique among this side's questions
    asked: Any


class Answer(Struct, frozen=True, tag=True):
    """Give the result of a question."""

    id: int  # the question's
    value: Any = None
    error: str = ""  # why there is no value


ToChild = Settings | Ping | Stop | Reload | Question | Answer
FromChild = Started | Ready | Failed | Progress | Pong | Question | Answer
Heard = Ping | Stop | Reload | Question


class NoAnswer(Exception):
    """The other side could not answer; the message is its own."""


def encode(message: ToChild | FromChild) -> bytes:
    """Return a message's line, in ASCII, so that paths that are not UTF-8 pass."""
    return json.dumps(msgspec.to_builtins(message)).encode() + b"\n"


def decode_to_child(line: bytes) -> ToChild:
    """Return the message of a line. Raises ValueError."""
    message: ToChild = _decode(line, ToChild)
    return message


def decode_from_child(line: bytes) -> FromChild:
    """Return the message of a line. Raises ValueError."""
    message: FromChild = _decode(line, FromChild)
    return message


def _decode(line: bytes, kinds: Any) -> Any:
    try:
        return msgspec.convert(json.loads(line), kinds)
    except RecursionError:
        raise ValueError("a message that is nested too deeply") from None


def call_in(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: object) -> None:
    """Have it called in this event loop, from another thread; nothing happens once the loop has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *arguments)


class ControlLine:
    """Hold the child's end of the line."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)  # the line must end with this process, whatever it starts
        self._socket = socket.socket(fileno=fd)
        self._lines = self._socket.makefile("rb")
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._asked: dict[int, Future[Any]] = {}
        self._gone = False

    def settings(self, kind: type[T]) -> T:
        """Ask for the child's settings, before anything else, and wait for them. Raises ConnectionError."""
        self.send(Started())
        line = self._lines.readline()
        if not line:
            raise ConnectionError(_GONE)
        message = decode_to_child(line)
        if not isinstance(message, Settings):
            raise ConnectionError(f"the supervisor said {type(message).__name__} before any settings")
        return msgspec.convert(message.values, kind)

    def send(self, message: FromChild) -> None:
        """Send a message to the supervisor; do nothing if it is gone."""
        line = encode(message)
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(line)

    def ask(self, question: object) -> Future[Any]:
        """Ask the supervisor something, which needs `listen`.

        The future fails with NoAnswer, or with ConnectionError if the supervisor is gone.
        """
        number, asked = next(self._numbers), Future[Any]()
        self._asked[number] = asked
        self.send(Question(number, question))
        if self._gone:  # looked at last: whoever says so goes through what was asked before
            self._fail(asked)
        return asked

    def listen(self, hear: Callable[[Heard], None], orphaned: Callable[[], None]) -> None:
        """Call `hear` for each message, and `orphaned` when the supervisor is gone, in a new thread."""
        threading.Thread(target=self._listen, args=(hear, orphaned), name="control", daemon=True).start()

    def _listen(self, hear: Callable[[Heard], None], orphaned: Callable[[], None]) -> None:
        with contextlib.suppress(OSError), self._socket, self._lines:
            for line in self._lines:
                try:
                    message = decode_to_child(line)
                except ValueError:  # what the next lines would mean is as unsure
                    log.exception("the supervisor said what makes no sense")
                    break
                if isinstance(message, Answer):
                    self._answered(message)
                elif not isinstance(message, Settings):
                    hear(message)
        self._gone = True
        orphaned()
        for asked in list(self._asked.values()):
            self._fail(asked)

    def _fail(self, asked: Future[Any]) -> None:
        with contextlib.suppress(InvalidStateError):
            asked.set_exception(ConnectionError(_GONE))

    def _answered(self, answer: Answer) -> None:
        asked = self._asked.pop(answer.id, None)
        if asked is not None:
            with contextlib.suppress(InvalidStateError):  # whoever asked has given up
                if answer.error:
                    asked.set_exception(NoAnswer(answer.error))
                else:
                    asked.set_result(answer.value)


def begin(argv: list[str], kind: type[S]) -> tuple[ControlLine, S]:
    """Take up the line of a child started as `python -m MODULE NAME CONTROL_FD`, get its settings, and set up its log.

    Ends the process where its supervisor is gone already.
    """
    _, name, fd = argv
    logs.setup(name)
    control = ControlLine(int(fd))
    try:
        settings = control.settings(kind)
    except ConnectionError as error:
        raise SystemExit(1) from error
    logging.getLogger().setLevel(settings.log_level.upper())
    return control, settings
