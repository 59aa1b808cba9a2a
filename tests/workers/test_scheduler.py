from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertstream.workers.contract import BULK, INTERACTIVE
from bertstream.workers.scheduler import PATIENCE_SECONDS, Entry, WaitingWork, entry, plan
from tests.support.works import make_work

NOW = 100.0
SOURCE = object()


def waiting(*entries: Entry) -> WaitingWork:
    queue = WaitingWork()
    for each in entries:
        queue.add(each)
    return queue


def at(
    work_id: int,
    tokens: int = 10,
    *,
    arrival: float = NOW,
    priority: int = INTERACTIVE,
    deadline: float = math.inf,
    alone: bool = False,
) -> Entry:
    return entry(make_work(work_id, [tokens], priority=priority, deadline=deadline, alone=alone), SOURCE, arrival)


def ids(entries: tuple[Entry, ...]) -> list[int]:
    return [each.work.id for each in entries]


def planned(*entries: Entry, now: float = NOW, batch_tokens: int = 100) -> list[int]:
    return ids(plan(sorted(entries), now, batch_tokens).batch)


def test_interactive_work_goes_before_bulk_work_that_came_earlier() -> None:
    assert planned(at(1, priority=BULK, arrival=NOW - 5), at(2)) == [2, 1]


def test_bulk_work_that_has_waited_long_enough_goes_first() -> None:
    patience = PATIENCE_SECONDS[BULK] - PATIENCE_SECONDS[INTERACTIVE]
    assert planned(at(1, priority=BULK, arrival=NOW - patience - 0.1), at(2)) == [1, 2]


def test_a_near_deadline_makes_work_urgent() -> None:
    assert planned(at(1), at(2, deadline=NOW + 0.2), at(3, priority=BULK, deadline=NOW + 0.1)) == [3, 2, 1]


def test_equals_go_by_arrival() -> None:
    assert planned(at(1, arrival=NOW - 0.1), at(2, arrival=NOW - 0.3), at(3, arrival=NOW - 0.2)) == [2, 3, 1]


def test_what_does_not_fit_is_looked_past() -> None:
    assert planned(at(1, 60), at(2, 50), at(3, 40)) == [1, 3]


def test_not_for_ever() -> None:
    first, large = at(0, 60), [at(i, 50) for i in range(1, 300)]
    assert planned(first, *large, at(999, 5, arrival=NOW + 0.5)) == [0]
    assert planned(first, *large[:200], at(999, 5, arrival=NOW + 0.5)) == [0, 999]


def test_the_first_is_taken_even_if_it_is_larger_than_a_batch() -> None:
    assert planned(at(1, 500), at(2, 1)) == [1]


def test_work_to_be_run_alone_is() -> None:
    assert planned(at(1, alone=True), at(2)) == [1]
    assert planned(at(1), at(2, alone=True), at(3)) == [1, 3]


def test_the_expired_are_told_apart_and_take_no_room() -> None:
    made = plan(sorted([at(1, 100, deadline=NOW), at(2, 100, deadline=NOW - 1), at(3, 100)]), NOW, 100)
    assert ids(made.batch) == [3]
    assert sorted(ids(made.expired)) == [1, 2]


def test_nothing_waits_and_nothing_is_planned() -> None:
    made = plan([], NOW, 100)
    assert (made.batch, made.expired) == ((), ())


def test_cancelled_work_is_gone() -> None:
    queue = waiting(at(1), at(2), at(3))
    assert queue.cancel(SOURCE, 2)
    assert not queue.cancel(SOURCE, 2)
    assert not queue.cancel(object(), 1)
    assert (len(queue), queue.tokens) == (2, 20)
    assert ids(queue.take(NOW, 100).batch) == [1, 3]
    assert not queue.cancel(SOURCE, 1)


def test_all_of_one_connection_is_dropped() -> None:
    other = object()
    queue = waiting(at(1), entry(make_work(1, [7]), other, NOW), at(2))
    queue.cancel_all(SOURCE)
    assert (len(queue), queue.tokens) == (1, 7)
    assert [each.source for each in queue.take(NOW, 100).batch] == [other]


def test_bulk_work_is_not_starved_by_a_flood() -> None:
    """More interactive work comes than batches take, so that it waits too; the bulk work gets its turn all the same."""
    queue, now, work_id = waiting(at(0, 100, priority=BULK)), NOW, 0
    while now < NOW + 2 * PATIENCE_SECONDS[BULK]:
        for _ in range(3):
            work_id += 1
            queue.add(at(work_id, 50, arrival=now))
        if 0 in ids(queue.take(now, 100).batch):
            return
        now += 0.5
    pytest.fail("it starved")


ENTRIES = st.lists(
    st.builds(
        at,
        st.integers(),
        st.integers(1, 60),
        arrival=st.floats(NOW - 30, NOW),
        priority=st.sampled_from([INTERACTIVE, BULK]),
        deadline=st.one_of(st.just(math.inf), st.floats(NOW - 10, NOW + 10)),
        alone=st.booleans(),
    ),
    max_size=40,
    unique_by=lambda each: each.work.id,
)


@given(ENTRIES, st.integers(1, 100))
def test_a_plan_keeps_its_promises(entries: list[Entry], batch_tokens: int) -> None:
    ordered = sorted(entries)
    made = plan(ordered, NOW, batch_tokens)
    tokens = sum(each.tokens for each in made.batch)
    alive = [each for each in ordered if each.work.deadline > NOW]
    assert tokens <= batch_tokens or len(made.batch) == 1
    assert all(each.work.deadline <= NOW for each in made.expired)
    assert all(each.work.deadline > NOW for each in made.batch)
    assert list(made.batch[:1]) == alive[:1]
    assert len(made.batch) == 1 or not any(each.work.alone for each in made.batch)


@given(ENTRIES, st.integers(1, 100))
def test_nothing_is_lost_and_nothing_comes_twice(entries: list[Entry], batch_tokens: int) -> None:
    queue = waiting(*entries)
    seen: list[int] = []
    while len(queue):
        made = queue.take(NOW, batch_tokens)
        assert made.batch or made.expired
        seen += ids(made.batch) + ids(made.expired)
        assert queue.tokens == sum(each.tokens for each in entries if each.work.id not in seen)
    assert sorted(seen) == sorted(each.work.id for each in entries)
    assert queue.tokens == 0
