"""A bulk stream over several calls: shared by speed, and taken over where one breaks."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertstream.client import Overloaded, Unavailable
from bertstream.client._calls.codec import Answers, Started
from bertstream.client._calls.steps import Emit, HalfClose, Open, Pull, Receive, Send, Sleep
from tests.client.calls.bulk_peer import OPTIONS, Peer, bulk


def texts_of(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


def peer_of(count: int, calls: int, seed: int = 0, breaks: float = 0.0, **config: Any) -> Peer:
    chance, peers = random.Random(seed), list[Peer]()
    stream = bulk(calls=calls, reconnect_seconds=1e9, choose=lambda *given: peers[0].choose(*given), **config)
    peers.append(Peer(stream, texts_of(count), chance, window=chance.randint(1, 40), break_share=breaks))
    return peers[0]


@settings(max_examples=60)
@given(st.integers(0, 300), st.integers(2, 5), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_nothing_is_lost_and_nothing_twice_over_any_calls(
    count: int, calls: int, ordered: bool, breaks: bool, seed: int
) -> None:
    peer = peer_of(count, calls, seed, 0.2 * breaks, ordered=ordered, batch_size=7)
    while not peer.stream.finished:
        peer.do(peer.stream.step())
        if breaks and peer.chance.random() < 0.1:
            peer.down = set(peer.chance.sample(range(calls), peer.chance.randint(0, calls)))
    assert sorted(peer.emitted) == [(number, f"partial t{number}") for number in range(count)]
    assert not ordered or [number for number, _ in peer.emitted] == list(range(count))
    assert all(times == 1 for times in peer.answered.values())
    assert peer.most_under_way <= max(peer.window, 7)


def test_all_calls_are_used_by_a_long_stream_and_one_by_a_short_one() -> None:
    long, short = peer_of(500, 3, batch_size=8), peer_of(8, 3, batch_size=8)
    long.run()
    short.run()
    assert sorted(long.opened) == [0, 1, 2]
    assert len(short.opened) == 1


def opened(calls: int, texts: int) -> tuple[Peer, list[list[int]]]:
    """Return a stream of messages of one text, after it has sent all that it can, and what each call has."""
    peer = peer_of(texts, calls, batch_size=1)
    peer.window = 2
    sent: list[list[int]] = [[] for _ in range(calls)]
    while not isinstance(step := peer.stream.step(), Receive):
        if isinstance(step, Send):
            sent[step.lane] += step.request.indexes
        peer.do(step)
    return peer, sent


def test_messages_go_to_the_call_with_the_least_under_way() -> None:
    peer, sent = opened(2, 40)
    assert [len(each) for each in sent] == [1, 1]
    fast, slow = 0, 1
    for lane in (fast, slow):
        peer.calls[lane].clear()
        peer.stream.receive(Answers([(number, "x") for number in sent[lane]]), lane)
    counts = [0, 0]
    for _ in range(30):
        step = peer.stream.step()
        if isinstance(step, Send):
            counts[step.lane] += 1
            if step.lane == fast:
                peer.stream.receive(Answers([(number, "x") for number in step.request.indexes]), fast)
        elif isinstance(step, Pull):
            peer.do(step)
        else:
            assert isinstance(step, Emit)
    assert counts[fast] > 5 * counts[slow]


def until_it_waits(peer: Peer) -> list[int]:
    """Do all that the stream asks for, with servers that take very much, and return what each call has under way."""
    while True:
        step = peer.stream.step()
        if not isinstance(step, Receive):
            peer.do(step)
        elif begun := [lane for lane in peer.calls if lane not in peer.started]:
            peer.started.add(begun[0])
            peer.stream.receive(Started(4096, OPTIONS), begun[0])
        else:
            return [len(peer.calls[lane]) for lane in sorted(peer.calls)]


def test_a_stream_that_is_shorter_than_the_windows_is_shared_by_speed() -> None:
    """Have one of two calls answer: it gets more, and the other, which may be slow, no more than it began with."""
    peer = peer_of(400, 2, batch_size=8, ordered=False)
    assert until_it_waits(peer) == [32, 32]
    fast = list(peer.calls[0])
    peer.calls[0].clear()
    peer.stream.receive(Answers([(item, "x") for item in fast]), 0)
    assert until_it_waits(peer) == [64, 32]


def test_what_a_broken_call_had_goes_to_another_at_once() -> None:
    peer, sent = opened(2, 2)
    peer.end(0, Unavailable("gone"))
    assert isinstance(peer.stream.step(), Pull | Receive)  # the other has no room yet
    peer.stream.receive(Answers([(number, "x") for number in sent[1]]), 1)
    while not isinstance(step := peer.stream.step(), Send):
        assert isinstance(step, Emit | Pull)
    assert (step.lane, step.request.indexes) == (1, sent[0])


def test_a_call_that_rests_keeps_nobody_waiting_and_all_that_rest_are_waited_for() -> None:
    peer, _ = opened(2, 4)
    peer.end(0, Overloaded("full", retry_after=3.0))
    peer.end(1, Unavailable("gone"))
    step = peer.stream.step()
    assert isinstance(step, Sleep)
    assert step.seconds == pytest.approx(0.1)
    assert str(step.error) == "gone"
    assert peer.stream.step() == Open(1)


def test_where_no_server_takes_calls_the_best_is_tried_after_a_rest() -> None:
    peer, _ = opened(2, 4)
    peer.down = {0, 1}
    for lane in (0, 1):
        peer.end(lane, Unavailable("down"))
    assert isinstance(peer.stream.step(), Sleep)
    assert isinstance(peer.stream.step(), Open)


def test_a_call_that_was_told_of_the_end_ends_before_it_is_opened_again() -> None:
    peer, sent = opened(2, 2)
    peer.stream.end()
    halves = [peer.stream.step() for _ in range(2)]
    assert all(isinstance(step, HalfClose) for step in halves)
    peer.down = {0}
    peer.end(0, Unavailable("gone"))
    assert isinstance(peer.stream.step(), Receive)  # the other call takes no more
    peer.calls[1].clear()
    peer.stream.receive(Answers([(number, "x") for number in sent[1]]), 1)
    peer.end(1, None)
    steps = [peer.stream.step() for _ in range(3)]
    assert Open(1) in steps
