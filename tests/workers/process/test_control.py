from __future__ import annotations

import json
import os
import queue
import socket
from typing import Any

import pytest

from bertstream.workers.process.control import ControlLine


def test_events_both_ways_and_the_end() -> None:
    ours, theirs = socket.socketpair()
    heard: queue.Queue[Any] = queue.Queue()
    with ours:
        line = ControlLine(theirs.detach())
        line.listen(heard.put, lambda: heard.put("orphaned"))
        ours.sendall(b'{"event": "ping"}\n{"eve')
        ours.sendall(b'nt": "stop"}\n')
        assert [heard.get(timeout=20), heard.get(timeout=20)] == [{"event": "ping"}, {"event": "stop"}]
        line.send("ready", pid=7, name="ü")
        with ours.makefile("rb") as lines:
            assert json.loads(next(lines)) == {"event": "ready", "pid": 7, "name": "ü"}
    assert heard.get(timeout=20) == "orphaned"
    line.send("pong")  # to nobody, and silently so


def test_children_of_the_child_do_not_hold_the_line() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        fd = theirs.detach()
        os.set_inheritable(fd, True)
        line = ControlLine(fd)
        assert not os.get_inheritable(fd)
        line.listen(lambda _: None, lambda: None)


def test_questions_and_their_answers_in_any_order() -> None:
    ours, theirs = socket.socketpair()
    line = ControlLine(theirs.detach())
    line.listen(lambda _: None, lambda: None)
    with ours, ours.makefile("rb") as lines:
        first, second, third, given_up = (line.ask("load", name=name) for name in ("a", "b", "c", "d"))
        asked = [json.loads(next(lines)) for _ in range(4)]
        assert [(each["event"], each["name"]) for each in asked] == [("load", name) for name in "abcd"]
        given_up.cancel()
        for each in (asked[3], asked[1], asked[0], {"id": 99}):
            ours.sendall(json.dumps({"event": "answer", "id": each["id"], "to": each.get("name")}).encode() + b"\n")
        assert (first.result(20)["to"], second.result(20)["to"]) == ("a", "b")
        assert not third.done()
        ours.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionError):
        third.result(20)
