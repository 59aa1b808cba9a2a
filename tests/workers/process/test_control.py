from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from bertstream.workers.process.control import (
    Answer,
    ControlLine,
    Failed,
    NoAnswer,
    Ping,
    Pong,
    Progress,
    Question,
    Ready,
    Settings,
    Started,
    Stop,
    call_in,
    decode_from_child,
    decode_to_child,
    encode,
)


@dataclass(frozen=True, slots=True)
class Own:
    path: str
    cores: tuple[int, ...] = ()
    inner: Own | None = None


OWN = Own(b"/m\xc3\xbcdels/\xff".decode("utf-8", "surrogateescape"), (1, 2), Own("", inner=Own("ü\n")))


class Pair:
    """Hold a child's line, and the supervisor's end of it."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.lines = self.socket.makefile("rb")
        self.child = ControlLine(theirs.detach())
        self._over: queue.Queue[None] | None = None

    def listen(self, hear: Callable[[Any], None] = lambda _: None, orphaned: Callable[[], None] = lambda: None) -> None:
        over = self._over = queue.Queue()

        def ended() -> None:
            orphaned()
            over.put(None)

        self.child.listen(hear, ended)

    def close(self) -> None:
        """Close our end, upon which the child's is closed."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        if self._over is None:
            self.listen()
        assert self._over is not None
        self._over.get(timeout=20)
        self.lines.close()
        self.socket.close()

    def tell(self, *messages: Any) -> None:
        self.socket.sendall(b"".join(map(encode, messages)))

    def heard(self) -> Any:
        return decode_from_child(next(self.lines))


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_messages_both_ways_and_the_end(pair: Pair) -> None:
    heard: queue.Queue[Any] = queue.Queue()
    pair.listen(heard.put, lambda: heard.put("orphaned"))
    line = encode(Ping()) + encode(Stop())
    pair.socket.sendall(line[:30])
    pair.socket.sendall(line[30:])
    assert [heard.get(timeout=20), heard.get(timeout=20)] == [Ping(), Stop()]
    pair.child.send(Ready(OWN))
    ready = pair.heard()
    assert isinstance(ready, Ready)
    assert msgspec.convert(ready.result, Own) == OWN
    pair.socket.shutdown(socket.SHUT_RDWR)
    assert heard.get(timeout=20) == "orphaned"
    pair.child.send(Pong())  # nobody hears it, and nothing happens


def test_children_of_the_child_do_not_hold_the_line() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        fd = theirs.detach()
        os.set_inheritable(fd, True)
        line = ControlLine(fd)
        assert not os.get_inheritable(fd)
        line.listen(lambda _: None, lambda: None)


def test_settings_come_first(pair: Pair) -> None:
    heard: queue.Queue[Any] = queue.Queue()
    pair.tell(Settings(OWN), Ping())
    assert pair.child.settings(Own) == OWN
    assert pair.heard() == Started()
    pair.listen(heard.put)
    assert heard.get(timeout=20) == Ping()


def test_settings_of_a_supervisor_that_is_gone_or_says_something_else(pair: Pair) -> None:
    pair.tell(Ping())
    with pytest.raises(ConnectionError, match="Ping before any settings"):
        pair.child.settings(Own)
    pair.tell(Settings({"path": 5}))
    with pytest.raises(msgspec.ValidationError, match=r"\$\.path"):
        pair.child.settings(Own)
    pair.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionError, match="the supervisor is gone"):
        pair.child.settings(Own)


def test_what_is_asked_of_a_supervisor_that_is_gone_fails(pair: Pair) -> None:
    over: queue.Queue[str] = queue.Queue()
    pair.listen(lambda message: None, lambda: over.put("orphaned"))
    pair.socket.shutdown(socket.SHUT_RDWR)
    assert over.get(timeout=20) == "orphaned"
    with pytest.raises(ConnectionError, match="the supervisor is gone"):
        pair.child.ask("after").result(20)


def test_questions_and_their_answers_in_any_order(pair: Pair) -> None:
    pair.listen()
    first, second, third, given_up, refused = (pair.child.ask(Own(name)) for name in "abcde")
    asked = [pair.heard() for _ in range(5)]
    assert [msgspec.convert(each.asked, Own) for each in asked] == [Own(name) for name in "abcde"]
    given_up.cancel()
    for each in (asked[3], asked[1], asked[0], Question(99, {"path": "?"})):
        pair.tell(Answer(each.id, each.asked["path"]))
    pair.tell(Answer(asked[4].id, error="no such thing"))
    assert (first.result(20), second.result(20)) == ("a", "b")
    with pytest.raises(NoAnswer, match="no such thing"):
        refused.result(20)
    assert not third.done()
    pair.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionError):
        third.result(20)


@pytest.mark.parametrize("line", [b"no JSON\n", b"[" * 100_000 + b"\n", encode(Started())])
def test_what_makes_no_sense_of_a_supervisor_ends_the_line(pair: Pair, line: bytes) -> None:
    over: queue.Queue[str] = queue.Queue()
    pair.listen(lambda message: over.put(type(message).__name__), lambda: over.put("orphaned"))
    asked = pair.child.ask("anything")
    pair.tell(Ping())
    pair.socket.sendall(line)
    assert [over.get(timeout=20) for _ in range(2)] == ["Ping", "orphaned"]
    with pytest.raises(ConnectionError):
        asked.result(20)


@pytest.mark.parametrize("message", [Started(), Failed("why", "where"), Progress(1), Pong(0.5), Question(1, [None])])
def test_what_a_child_says_is_one_line_of_ascii(message: Any) -> None:
    line = encode(message)
    assert (line.isascii(), line.count(b"\n"), line[-1:]) == (True, 1, b"\n")
    assert decode_from_child(line) == message


@pytest.mark.parametrize(
    "line",
    [
        *(b"no JSON", b"[]", b"{}", b"[" * 100_000, b"9" * 10_000),
        *(b'{"type": "Ping", "id": 3}', b'{"type": "Pong", "computing_seconds": "long"}'),
    ],
    ids=lambda line: line[:20],
)
def test_what_makes_no_sense_of_a_child_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_from_child(line)


def test_what_only_a_child_says_is_refused_by_a_child() -> None:
    assert decode_to_child(json.dumps({"type": "Stop"}).encode()) == Stop()
    with pytest.raises(ValueError, match="'Started'"):
        decode_to_child(encode(Started()))


def test_what_is_said_to_a_loop_that_has_ended_does_nothing() -> None:
    loop, called = asyncio.new_event_loop(), list[str]()
    call_in(loop, called.append, "before")
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    call_in(loop, called.append, "after")
    assert called == ["before"]
