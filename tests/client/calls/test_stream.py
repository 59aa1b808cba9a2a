"""The bulk stream's state machine, without a server: every interleaving that a network could make."""

from __future__ import annotations

import random
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from bertstream.client import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    Report,
    RpcError,
    Timings,
    Unavailable,
    Usage,
)
from bertstream.client._calls.backoff import Backoff
from bertstream.client._calls.codec import Answers
from bertstream.client._calls.steps import Emit, HalfClose, Open, Pull, Receive, Send, Sleep
from bertstream.client._calls.stream import HELD_BYTES, BulkStream, StreamConfig
from bertstream.client._texts import MessageLimits
from bertstream.client._usage import Cost, joined_cost
from bertstream.v1 import types_pb2 as types
from tests.client.calls.bulk_peer import EchoCodec, Peer, bulk, refusal, send


class LargeCodec(EchoCodec):
    """A codec with large answers, of which at most four may be under way."""

    typical_bytes = size = HELD_BYTES // 4


@settings(max_examples=60)
@given(st.integers(0, 300), st.integers(1, 70), st.integers(1, 80), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_nothing_is_lost_nothing_twice_and_all_is_bounded(
    count: int, batch_size: int, window: int, ordered: bool, breaks: bool, seed: int
) -> None:
    codec, reports, share = EchoCodec(), list[Report](), 0.2 if breaks else 0.0
    stream = bulk(codec, ordered=ordered, batch_size=batch_size, reconnect_seconds=1e9, report=reports.append)
    peer = Peer(
        stream, [f"t{i}" for i in range(count)], random.Random(seed), window, share, refuse_share=share, parts=True
    )
    emitted = peer.run()
    assert sorted(emitted) == sorted((i, f"partial t{i}") for i in range(count))
    assert not ordered or [item for item, _ in emitted] == list(range(count))
    assert all(answers == 1 for answers in peer.answered.values())
    assert peer.most_under_way <= max(window, min(64, batch_size))
    assert peer.most_held <= 2 * max(window, min(64, batch_size)) + batch_size
    assert all(size == batch_size for size in peer.sizes[:-1])
    assert (stream.counts.texts, stream.counts.tokens) == (count, 3 * count)
    assert joined_cost(codec.costs).usage == Usage(count, 3 * count, 0)
    assert sum(report.usage.texts for report in reports) == count
    assert all(cost.timings.compute for cost in codec.costs)


@settings(max_examples=40)
@given(st.integers(0, 100), st.integers(1, 20), st.integers(1, 80), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_large_answers_are_asked_for_a_few_at_a_time(
    count: int, batch_size: int, window: int, ordered: bool, breaks: bool, seed: int
) -> None:
    stream = bulk(LargeCodec(), ordered=ordered, batch_size=batch_size, reconnect_seconds=1e9)
    texts, share = [f"t{i}" for i in range(count)], 0.2 if breaks else 0.0
    peer = Peer(stream, texts, random.Random(seed), window, share, parts=True)
    assert sorted(peer.run()) == sorted((i, f"partial t{i}") for i in range(count))
    assert peer.most_under_way <= max(4, min(4, window))
    assert peer.most_held <= 2 * 4 + batch_size
    assert all(size == batch_size for size in peer.sizes[:-1])


def test_what_was_learnt_of_the_size_of_answers_fades() -> None:
    codec = LargeCodec()
    stream = bulk(codec, batch_size=64)
    peer = Peer(stream, ["t"] * 3000, random.Random(5), window=256)
    codec.size = 100
    peer.run()
    assert peer.most_under_way > 200


def test_only_one_item_may_go_on_in_a_later_message() -> None:
    stream = bulk()
    stream.add(["a", "b"])
    with pytest.raises(Internal, match="2 items that go on"):
        stream.receive(Answers([(0, "x"), (1, "y")], more=True))


def test_an_empty_input_opens_no_call() -> None:
    stream = bulk()
    peer = Peer(stream, [], random.Random(0))
    assert peer.run() == []
    assert not peer.started


def test_a_slow_first_item_does_not_make_the_reorder_window_grow_without_bound() -> None:
    stream = bulk(batch_size=10)
    peer = Peer(stream, [f"t{i}" for i in range(10_000)], random.Random(1), window=40)
    for _ in range(1000):
        step = stream.step()
        if isinstance(step, Receive) and peer.started:
            rest = [item for item in peer.calls[0] if item]
            if not rest:
                break  # only the slow one is under way, and no more is pulled
            for item in rest:
                del peer.calls[0][item]
            stream.receive(Answers([(item, "x") for item in rest]))
        else:
            peer.do(step)
    assert 40 < peer.position <= 2 * 40 + 10
    stream.receive(Answers([(0, "x")]))
    assert isinstance(stream.step(), Emit)


def test_a_message_counts_with_the_batch_of_its_first_row() -> None:
    codec = EchoCodec()
    stream = bulk(codec, batch_size=2)
    send(stream, ["a", "b", "c", "d"])
    slow, fast = Timings(1.0, None, 5.0, None), Timings(2.0, None, 4.0, 6.0)
    stream.receive(Answers([(1, "b"), (2, "c")], cost=Cost(Usage(2, 20, 1), slow)))
    stream.receive(Answers([(0, "a"), (3, "d")], cost=Cost(Usage(2, 7, 0), fast)))
    for _ in range(2):
        while not isinstance(stream.step(), Emit):
            pass
    slowest = Timings(2.0, None, 5.0, 6.0)
    assert codec.costs == [Cost(Usage(4, 27, 1), slowest), Cost(Usage(0, 0, 0), slowest)]


def test_a_field_at_fault_is_that_of_the_input() -> None:
    stream = bulk(collect_errors=True, batch_size=9)
    send(stream, [(70 + index, "a") for index in range(9)])
    status = error_status(("items.inputs.texts[2]", "bad"))
    stream.receive(Answers([], [types.ItemError(id=8, status=status)]))
    stream.receive(Answers([(index, "x") for index in range(8)]))
    stream.end()
    while not isinstance(step := stream.step(), Emit):
        pass
    error = step.batch[8][1]
    assert error.fields == [("items.inputs.texts[8]", "bad")]
    assert str(error) == "item 78: items.inputs.texts[8]: bad"


def error_status(*fields: tuple[str, str]) -> status_pb2.Status:
    """Return a status as the server makes it for a field."""
    bad = error_details_pb2.BadRequest()
    for path, description in fields:
        bad.field_violations.add(field=path, description=description)
    result = status_pb2.Status(code=3, message=f"{fields[0][0]}: {fields[0][1]}")
    result.details.add().Pack(bad)
    return result


def test_callers_ids_come_back() -> None:
    peer = Peer(bulk(), [(70, "a"), (-5, "b"), (70, "c")], random.Random(2))
    assert peer.run() == [(70, "partial a"), (-5, "partial b"), (70, "partial c")]


def test_ids_for_some_items_only_are_refused() -> None:
    stream = bulk()
    with pytest.raises(TypeError, match="all items"):
        stream.add([(1, "a"), "b"])


def failing(ordered: bool, collect: bool) -> tuple[BulkStream[Any, Any], list[Any]]:
    """Return a stream in which item 3 of 6 has failed before items 0 to 2 are answered."""
    stream, steps = bulk(ordered=ordered, collect_errors=collect, batch_size=6), []
    while not isinstance(step := stream.step(), Receive):
        steps.append(step)
        match step:
            case Pull(_):
                stream.add("abcdef")
                stream.end()
            case Open():
                stream.opened()
    failure = types.ItemError(id=3, status=status_pb2.Status(code=5, message="no"))
    stream.receive(Answers([(4, "e")], [failure]))
    stream.receive(Answers([(item, "abcdef"[item]) for item in (0, 1, 2, 5)]))
    return stream, steps


def test_errors_are_collected_in_place() -> None:
    stream, _ = failing(ordered=True, collect=True)
    step = stream.step()
    assert isinstance(step, Emit)
    assert [item for item, _ in step.batch] == [0, 1, 2, 3, 4, 5]
    error = step.batch[3][1]
    assert isinstance(error, NotFound)
    assert error.item_id == 3


@pytest.mark.parametrize(("ordered", "before"), [(True, [0, 1, 2]), (False, [4])])
def test_an_error_is_raised_after_the_rows_before_it(ordered: bool, before: list[int]) -> None:
    stream, _ = failing(ordered=ordered, collect=False)
    step = stream.step()
    assert isinstance(step, Emit)
    assert [item for item, _ in step.batch] == before
    with pytest.raises(NotFound, match="item 3: no"):
        stream.step()


@pytest.mark.parametrize("collect", [False, True])
@pytest.mark.parametrize("code", [8, 14])
def test_what_is_refused_for_now_is_sent_again_when_the_server_says(collect: bool, code: int) -> None:
    stream = bulk(batch_size=4, collect_errors=collect)
    send(stream, ["a", "b", "c", "d"])
    stream.receive(Answers([(0, "a"), (3, "d")], [refusal(1, code, 0.5), refusal(2, code, 3.0)]))
    stream.end()
    step = stream.step()
    assert isinstance(step, Sleep)
    assert (step.seconds, step.error.item_id) == (3.0, 2)
    again = stream.step()
    assert isinstance(again, Send)
    assert again.request.indexes == [1, 2]
    stream.receive(Answers([(1, "b"), (2, "c")]))
    first, second = stream.step(), stream.step()
    assert isinstance(first, HalfClose)
    assert isinstance(second, Emit)
    assert second.batch == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]


def test_what_is_refused_without_a_time_to_come_again_fails_alone() -> None:
    stream = bulk(batch_size=2, collect_errors=True)
    send(stream, ["a", "b"])
    stream.receive(Answers([(0, "a")], [types.ItemError(id=1, status=status_pb2.Status(code=8, message="too large"))]))
    step = stream.step()
    assert isinstance(step, Emit)
    assert isinstance(step.batch[1][1], Overloaded)


def test_a_server_that_refuses_all_for_long_is_given_up() -> None:
    now = 0.0
    config = StreamConfig(collect_errors=True, reconnect_seconds=30.0)
    stream = BulkStream(EchoCodec(), config, jitter=lambda: 1.0, clock=lambda: now)
    send(stream, ["a"])
    stream.end()
    while now <= config.reconnect_seconds:
        stream.receive(Answers([], [refusal(0)]))
        step = stream.step()
        assert isinstance(step, Sleep)
        now += step.seconds
        assert isinstance(stream.step(), Send)
    stream.receive(Answers([], [refusal(0)]))
    with pytest.raises(Unavailable, match="not now"):
        stream.step()


def test_an_item_whose_time_is_over_ends_the_stream_as_it_is_the_time_of_all() -> None:
    stream = bulk(batch_size=2, collect_errors=True)
    send(stream, ["a", "b"])
    stream.receive(Answers([(0, "a")], [refusal(1, 4)]))
    step = stream.step()
    assert isinstance(step, Emit)
    assert step.batch == [(0, "a")]
    with pytest.raises(DeadlineExceeded):
        stream.step()


def test_a_text_too_large_fails_alone() -> None:
    stream = bulk(collect_errors=True, limits=MessageLimits(64, 100, largest=200))
    peer = Peer(stream, ["a", "b" * 300, "c" * 150], random.Random(3))
    rows = peer.run()
    error = rows[1][1]
    assert isinstance(error, InvalidArgument)
    assert (error.reason, error.item_id) == ("REQUEST_TOO_LARGE", 1)
    assert [row[0] for row in rows] == [0, 1, 2]


def test_lone_surrogates_fail_alone() -> None:
    rows = Peer(bulk(collect_errors=True), ["a", "\ud83d"], random.Random(4)).run()
    assert rows[1][1].reason == "INVALID_TEXT"
    assert rows[1][1].fields[0].path == "items.inputs.texts[1]"


@pytest.mark.parametrize("answers", [Answers([(7, "x")]), Answers([], [types.ItemError(id=7)])])
def test_answers_to_what_was_not_asked_are_refused(answers: Any) -> None:
    stream = bulk()
    stream.add(["a"])
    with pytest.raises(Internal, match="id 7"):
        stream.receive(answers)


def test_an_early_end_is_an_error() -> None:
    stream = bulk()
    stream.add(["a"])
    stream.broken(None)
    with pytest.raises(Internal, match="1 items unanswered"):
        stream.step()


def test_other_errors_are_not_retried() -> None:
    stream = bulk()
    stream.add(["a"])
    stream.broken(NotFound("no"))
    with pytest.raises(NotFound):
        stream.step()


def test_a_break_after_the_last_answer_does_not_matter() -> None:
    stream, _ = failing(ordered=True, collect=True)
    stream.broken(Unavailable("gone"))
    assert isinstance(stream.step(), Emit)
    assert stream.finished


def test_reopening_is_given_up_after_a_while_without_an_answer() -> None:
    stream = bulk(reconnect_seconds=1.0)
    stream.add(["a"])
    for delay in (0.1, 0.2, 0.4):
        stream.broken(Unavailable("gone"))
        step = stream.step()
        assert isinstance(step, Sleep)
        assert step.seconds == pytest.approx(delay)
        assert stream.step() == Open()
        stream.opened()
    stream.broken(Unavailable("gone"))
    with pytest.raises(Unavailable):
        stream.step()


def test_what_has_come_is_handed_out_before_the_error() -> None:
    stream = bulk(batch_size=2)
    send(stream, ["a", "b", "c", "d"])
    stream.receive(Answers([(0, "a"), (1, "b"), (2, "c")]))
    stream.broken(NotFound("no"))
    for expected in ([(0, "a"), (1, "b")], [(2, "c")]):
        step = stream.step()
        assert isinstance(step, Emit)
        assert step.batch == expected
    with pytest.raises(NotFound):
        stream.step()


def test_backoff_grows_to_a_limit_and_heeds_the_server() -> None:
    backoff = Backoff(1e9, jitter=lambda: 0.0)
    delays = [backoff.next_delay(RpcError("x")) for _ in range(9)]
    assert delays[0] == pytest.approx(0.05)
    assert delays[-1] == pytest.approx(2.5)
    assert backoff.next_delay(Overloaded("x", retry_after=7.5)) == pytest.approx(7.5)
    backoff.reset()
    assert backoff.next_delay(RpcError("x")) == pytest.approx(0.05)
