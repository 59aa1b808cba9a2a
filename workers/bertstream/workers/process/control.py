"""The line between the supervisor and a child: JSON objects, one a line, over a socket pair.

A child first asks for its settings, since a command line is there for all on the machine to read. Later either side may
ask. What is asked, answered or told of progress, only those know who ask and tell: it is given as structs, dataclasses
and what they are made of, and comes as plain JSON, of which `msgspec.convert` makes the same. The child learns from the
line's end that its supervisor is gone, however it went, and must not outlive it.
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
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from bertstream.workers.process import logs


class ChildSettings(Protocol):
    """What the settings of any child say."""

    @property
    def log_level(self) -> str: ...


T = TypeVar("T")
S = TypeVar("S", bound=ChildSettings)

_GONE = "the supervisor is gone"


class Started(Struct, frozen=True, tag=True):
    """The child is there, and wants its settings; the first that it says."""


class Settings(Struct, frozen=True, tag=True):
    """The child's settings, the first that it is told."""

    values: Any


class Ready(Struct, frozen=True, tag=True):
    """The child has started, with what came of it."""

    result: Any = None


class Failed(Struct, frozen=True, tag=True):
    """The child cannot start, in words for people."""

    message: str
    step: str = ""  # that it was at


class Progress(Struct, frozen=True, tag=True):
    """How far the child is with what it does."""

    made: Any


class Ping(Struct, frozen=True, tag=True):
    """A sign of life is wanted; only of a child that is ready."""


class Pong(Struct, frozen=True, tag=True):
    """The sign of life."""

    computing_seconds: float = 0.0  # so far, of the batch that is being computed


class Stop(Struct, frozen=True, tag=True):
    """The child is to drain and end; only one that is ready."""


class Reload(Struct, frozen=True, tag=True):
    """The child is to read the files that it follows again; only one that is ready."""


class Question(Struct, frozen=True, tag=True):
    """Something that the other side is asked."""

    id: int  # among those of this side
    asked: Any


class Answer(Struct, frozen=True, tag=True):
    """What came of a question."""

    id: int  # the question's
    value: Any = None
    error: str = ""  # why there is no value


ToChild = Settings | Ping | Stop | Reload | Question | Answer
FromChild = Started | Ready | Failed | Progress | Pong | Question | Answer
Heard = Ping | Stop | Reload | Question


class NoAnswer(Exception):
    """The other side could not answer; the message is its own."""


def encode(message: ToChild | FromChild) -> bytes:
    """Return a message's line. It is ASCII, so that paths which are no UTF-8 pass."""
    return json.dumps(msgspec.to_builtins(message)).encode() + b"\n"


def decode_to_child(line: bytes) -> ToChild:
    """Return the message of a line. Raises ValueError."""
    message: ToChild = msgspec.convert(json.loads(line), ToChild)
    return message


def decode_from_child(line: bytes) -> FromChild:
    """Return the message of a line. Raises ValueError."""
    message: FromChild = msgspec.convert(json.loads(line), FromChild)
    return message


class ControlLine:
    """The child's end."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)  # the line ends with this process, whatever it starts
        self._socket = socket.socket(fileno=fd)
        self._lines = self._socket.makefile("rb")
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._asked: dict[int, Future[Any]] = {}

    def settings(self, kind: type[T]) -> T:
        """Ask for the child's settings and wait for them, before all else. Raises ConnectionError."""
        self.send(Started())
        line = self._lines.readline()
        if not line:
            raise ConnectionError(_GONE)
        told = decode_to_child(line)
        if not isinstance(told, Settings):
            raise ConnectionError(f"the supervisor said {type(told).__name__} before any settings")
        return msgspec.convert(told.values, kind)

    def send(self, message: FromChild) -> None:
        """Tell the supervisor something; silently nothing if it is gone."""
        line = encode(message)
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(line)

    def ask(self, question: object) -> Future[Any]:
        """Ask the supervisor something, which needs `listen`. Fails with NoAnswer, or ConnectionError if it is gone."""
        number, asked = next(self._numbers), Future[Any]()
        self._asked[number] = asked
        self.send(Question(number, question))
        return asked

    def listen(self, hear: Callable[[Heard], None], orphaned: Callable[[], None]) -> None:
        """Call `hear` for each message, and `orphaned` when the supervisor is gone, in a thread of its own."""
        threading.Thread(target=self._listen, args=(hear, orphaned), name="control", daemon=True).start()

    def _listen(self, hear: Callable[[Heard], None], orphaned: Callable[[], None]) -> None:
        with contextlib.suppress(OSError), self._socket, self._lines:
            for line in self._lines:
                message = decode_to_child(line)
                if isinstance(message, Answer):
                    self._answered(message)
                elif not isinstance(message, Settings):
                    hear(message)
        orphaned()
        for asked in list(self._asked.values()):
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
    """Take up the line of a child that was started as `python -m MODULE NAME CONTROL_FD`, and be told its settings.

    Ends the process where its supervisor is gone already. Its log is set up, too.
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
