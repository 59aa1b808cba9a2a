"""The bulk stream's state machine, without a server: every interleaving that a network could make."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from bertstream.client import (
    EffectiveOptions,
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
from bertstream.client._calls.steps import Emit, HalfClose, Open, Pull, Receive, Send, Sleep
from bertstream.client._calls.stream import HELD_BYTES, Answers, Backoff, BulkStream, Started, StreamConfig
from bertstream.client._texts import ITEMS, Group, MessageLimits, PreparedText, prepare
from bertstream.client._usage import Cost, joined_cost
from bertstream.v1 import types_pb2 as types


class EchoCodec:
    """A codec whose requests are groups, and whose responses are the results of `parse`."""

    typical_bytes = size = 0

    def __init__(self) -> None:
        self.costs: list[Cost] = []

    def prepare(self, text: object, index: int) -> PreparedText:
        return prepare(text, index, ITEMS)

    def options(self) -> str:
        return "options"

    def request(self, group: Group) -> Group:
        return group

    def parse(self, response: Any) -> Any:
        return response

    def joined(self, pieces: list[str]) -> str:
        return "".join(pieces)

    def bytes_of(self, answer: str) -> int:
        return self.size

    def batch(self, ids: list[int], outcomes: list[Any], cost: Cost) -> list[tuple[int, Any]]:
        self.costs.append(cost)
        return list(zip(ids, outcomes, strict=True))


class LargeCodec(EchoCodec):
    """A codec with large answers, of which at most four may be under way."""

    typical_bytes = size = HELD_BYTES // 4


OPTIONS = EffectiveOptions("tiny", None, "longest_first", "right", 9, "code_points")


def bulk(codec: Any = None, **config: Any) -> BulkStream[Any, Any]:
    return BulkStream(codec or EchoCodec(), StreamConfig(**config), jitter=lambda: 1.0)


@dataclass
class Peer:
    """Does what the stream says, as a client and a server whose timing is random."""

    stream: BulkStream[Any, Any]
    texts: list[Any]
    chance: random.Random
    window: int = 32
    break_share: float = 0.0
    parts: bool = False
    emitted: list[tuple[int, Any]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    under_way: dict[int, Any] = field(default_factory=dict)
    answered: Counter[int] = field(default_factory=Counter)
    most_under_way: int = 0
    most_held: int = 0
    slept: list[float] = field(default_factory=list)
    started: bool = False
    position: int = 0

    def run(self) -> list[tuple[int, Any]]:
        while not self.stream.finished:
            self.do(self.stream.step())
            held = self.position - len(self.emitted)
            self.most_held = max(self.most_held, held)
        return self.emitted

    def do(self, step: Any) -> None:
        match step:
            case Pull(count):
                texts = self.texts[self.position : self.position + count]
                self.position += len(texts)
                if len(texts) < count:
                    self.stream.end()
                self.stream.add(texts)
            case Open():
                self.under_way, self.started = {}, False
                self.stream.opened()
            case Send(group):
                assert not self.under_way.keys() & set(group.indexes)
                self.under_way |= zip(group.indexes, group.values, strict=True)
                self.most_under_way = max(self.most_under_way, len(self.under_way))
            case Sleep(seconds, _):
                self.slept.append(seconds)
            case Emit(batch):
                self.emitted += batch
                self.sizes.append(len(batch))
            case Receive():
                self.answer()
            case _:
                assert isinstance(step, HalfClose)

    def answer(self) -> None:
        if not self.started:
            self.started = True
            self.stream.receive(Started(self.window, OPTIONS))
        elif self.chance.random() < self.break_share:
            self.stream.broken(Unavailable("gone"))
        else:
            assert self.under_way, "waits for answers to nothing"
            some = self.chance.sample(sorted(self.under_way), self.chance.randint(1, len(self.under_way)))
            if self.parts and self.chance.random() < 0.5:
                self.stream.receive(Answers([(some[0], "part")], more=True))
                if self.chance.random() < self.break_share:
                    self.stream.broken(Unavailable("gone"))
                    return
                self.answered[some[0]] += 1
                self.stream.receive(Answers([(some[0], f"ial {self.under_way.pop(some[0])}")], cost=self.cost(1)))
                return
            self.answered.update(some)
            rows = [(item, f"partial {self.under_way.pop(item)}") for item in some]
            self.stream.receive(Answers(rows, cost=self.cost(len(rows))))

    def cost(self, texts: int) -> Cost:
        return Cost(Usage(texts, 3 * texts, 0), Timings(None, None, self.chance.random(), None))


@settings(max_examples=60)
@given(st.integers(0, 300), st.integers(1, 70), st.integers(1, 80), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_nothing_is_lost_nothing_twice_and_all_is_bounded(
    count: int, batch_size: int, window: int, ordered: bool, breaks: bool, seed: int
) -> None:
    codec, reports = EchoCodec(), list[Report]()
    stream = bulk(codec, ordered=ordered, batch_size=batch_size, reconnect_seconds=1e9, report=reports.append)
    peer = Peer(
        stream, [f"t{i}" for i in range(count)], random.Random(seed), window, 0.2 if breaks else 0.0, parts=True
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
            rest = [item for item in peer.under_way if item]
            if not rest:
                break  # only the slow one is under way, and no more is pulled
            for item in rest:
                del peer.under_way[item]
            stream.receive(Answers([(item, "x") for item in rest]))
        else:
            peer.do(step)
    assert 40 < peer.position <= 2 * 40 + 10
    stream.receive(Answers([(0, "x")]))
    assert isinstance(stream.step(), Emit)


def test_a_message_counts_with_the_batch_of_its_first_row() -> None:
    codec = EchoCodec()
    stream = bulk(codec, batch_size=2)
    stream.add(["a", "b", "c", "d"])
    stream.opened()
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
    stream.add([(70 + index, "a") for index in range(9)])
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
    with pytest.raises(Internal, match="1 items unanswered"):
        stream.broken(None)


def test_other_errors_are_not_retried() -> None:
    stream = bulk()
    stream.add(["a"])
    with pytest.raises(NotFound):
        stream.broken(NotFound("no"))


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
    with pytest.raises(Unavailable):
        stream.broken(Unavailable("gone"))


def test_backoff_grows_to_a_limit_and_heeds_the_server() -> None:
    backoff = Backoff(1e9, jitter=lambda: 0.0)
    delays = [backoff.next_delay(RpcError("x")) for _ in range(9)]
    assert delays[0] == pytest.approx(0.05)
    assert delays[-1] == pytest.approx(2.5)
    assert backoff.next_delay(Overloaded("x", retry_after=7.5)) == pytest.approx(7.5)
    backoff.reset()
    assert backoff.next_delay(RpcError("x")) == pytest.approx(0.05)
