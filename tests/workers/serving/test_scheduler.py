from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bertstream.workers.contract import BULK, INTERACTIVE
from bertstream.workers.serving.pace import Pace
from bertstream.workers.serving.scheduler import (
    TURN_SECONDS,
    BatchBounds,
    Entry,
    Plan,
    Timing,
    WaitingWork,
    entry,
    is_bulk,
    plan,
)
from tests.support.works import make_work

NOW = 100.0
BOUNDS = BatchBounds(100, 100)
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


def made(entries: Iterable[Entry], now: float = NOW, batch_tokens: int = 100, bulk_turn: float = -math.inf) -> Plan:
    interactive, bulk = ([each for each in sorted(entries) if is_bulk(each) is kind] for kind in (False, True))
    return plan(interactive, bulk, now, BatchBounds(batch_tokens, batch_tokens), bulk_turn)


def planned(*entries: Entry, now: float = NOW, batch_tokens: int = 100, bulk_turn: float = -math.inf) -> list[int]:
    return ids(made(entries, now, batch_tokens, bulk_turn).batch)


def test_interactive_work_goes_before_bulk_work_that_came_earlier() -> None:
    assert planned(at(1, priority=BULK, arrival=NOW - 1), at(2, arrival=NOW)) == [2]


def test_bulk_work_joins_interactive_work_only_where_it_makes_the_batch_little_longer() -> None:
    bulk = [at(i, tokens, priority=BULK, arrival=NOW - 1) for i, tokens in ((1, 60), (2, 1), (3, 1), (4, 1))]
    assert planned(at(10, 10), *bulk) == [10, 2, 3]  # an eighth of the batch, both together
    assert planned(at(10, 13), *bulk) == [10]
    assert planned(*bulk) == [1, 2, 3, 4]


def test_a_batch_in_which_interactive_work_goes_first_is_short() -> None:
    calls = [at(i, 20) for i in range(1, 5)]
    streams = [at(i, 20, priority=BULK) for i in range(11, 18)]
    bounds = BatchBounds(200, 50)
    assert ids(plan(calls, streams, NOW, bounds).batch) == [1, 2]
    assert ids(plan(calls[:1], streams, NOW, bounds).batch) == [1]  # together more than an eighth of 200
    assert ids(plan((), streams, NOW, bounds).batch) == [11, 12, 13, 14, 15, 16, 17]
    assert ids(plan([at(1, 60), *calls], (), NOW, bounds).batch) == [1]  # what is longer is not cut
    turn = NOW + TURN_SECONDS
    assert ids(plan(calls, streams, turn, bounds).batch) == [11, 12, 13, 14, 15, 16, 17, 1, 2, 3]  # bulk work's turn


def test_bulk_work_that_has_waited_long_enough_for_its_turn_goes_first() -> None:
    waited = NOW - TURN_SECONDS
    assert planned(at(1, priority=BULK, arrival=waited), at(2)) == [1, 2]
    assert planned(at(1, priority=BULK, arrival=waited + 0.1), at(2)) == [2]


def test_where_bulk_work_has_its_turns_it_goes_last_however_long_it_has_waited() -> None:
    """It is in a stream's window, behind much work of its own kind."""
    old = at(1, 50, priority=BULK, arrival=NOW - 1000)
    assert planned(old, at(2), bulk_turn=NOW - TURN_SECONDS + 0.1) == [2]
    assert planned(old, at(2), bulk_turn=NOW - TURN_SECONDS) == [1, 2]


def test_a_near_deadline_makes_work_urgent() -> None:
    assert planned(at(1), at(2, deadline=NOW + 0.2), at(3, priority=BULK, deadline=NOW + 0.1)) == [3, 2, 1]


def test_what_bulk_work_has_expired_does_not_hold_up_interactive_work() -> None:
    expired = at(1, 50, priority=BULK, arrival=NOW - 9, deadline=NOW - 1)
    found = made([expired, at(2), at(3, 50, priority=BULK)])
    assert (ids(found.batch), ids(found.expired)) == ([2], [1])


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
    found = made([at(1, 100, deadline=NOW), at(2, 100, deadline=NOW - 1), at(3, 100)])
    assert ids(found.batch) == [3]
    assert sorted(ids(found.expired)) == [1, 2]


def test_nothing_waits_and_nothing_is_planned() -> None:
    assert made([]) == Plan((), ())


def test_cancelled_work_is_gone() -> None:
    queue = waiting(at(1), at(2), at(3))
    assert queue.cancel(SOURCE, 2)
    assert not queue.cancel(SOURCE, 2)
    assert not queue.cancel(object(), 1)
    assert (len(queue), queue.tokens) == (2, 20)
    assert ids(queue.take(NOW, BOUNDS).batch) == [1, 3]
    assert not queue.cancel(SOURCE, 1)


def test_all_of_one_connection_is_dropped() -> None:
    other = object()
    queue = waiting(at(1), entry(make_work(1, [7]), other, NOW), at(2))
    queue.cancel_all(SOURCE)
    assert (len(queue), queue.tokens) == (1, 7)
    assert [each.source for each in queue.take(NOW, BOUNDS).batch] == [other]


def test_bulk_work_is_not_starved_by_a_flood() -> None:
    """More interactive work comes than batches take; the bulk work gets its turns, and no more than those."""
    queue, turn, turns, work_id = waiting(*(at(-i, 100, priority=BULK) for i in range(1, 99))), NOW, 0, 0
    for step in range(100):
        now = NOW + step * TURN_SECONDS / 10
        for _ in range(3):
            work_id += 1
            queue.add(at(work_id, 50, arrival=now))
        if is_bulk(queue.take(now, BOUNDS, turn).batch[0]):
            turn, turns = now, turns + 1
    assert turns == 9


def test_each_priority_can_be_taken_alone() -> None:
    queue = waiting(at(1, priority=BULK), at(2), at(3, priority=BULK, deadline=NOW), at(4, deadline=NOW))
    bulk = queue.take_bulk(NOW, BOUNDS)
    assert (ids(bulk.batch), ids(bulk.expired)) == ([1], [3])
    assert (len(queue), queue.tokens) == (2, 20)
    interactive = queue.take_interactive(NOW, BOUNDS)
    assert (ids(interactive.batch), ids(interactive.expired)) == ([2], [4])
    assert (len(queue), queue.tokens) == (0, 0)


def paced(seconds: float, **options: Any) -> Timing:
    """Return the timing where each token takes this long."""
    pace = Pace()
    for tokens in (10, 50, 100) * 400:
        pace.add(tokens, tokens * seconds)
    return Timing(begins=NOW, pace=pace, **options)


def timed(*entries: Entry, timing: Timing) -> Plan:
    return plan(sorted(entries), (), NOW, BOUNDS, timing=timing)


def test_what_could_not_be_ready_in_time_is_told_apart_and_takes_no_room() -> None:
    found = timed(at(1, 60, deadline=NOW + 0.5), at(2, 60, deadline=NOW + 0.7), timing=paced(0.01))
    assert (ids(found.batch), ids(found.overloaded), found.expired) == ([2], [1], ())


def test_a_batch_has_no_more_than_is_ready_by_the_first_deadline_in_it() -> None:
    entries = [at(1, 20, deadline=NOW + 0.5), at(2, 40), at(3, 20), at(4, 5)]
    assert ids(timed(*entries, timing=paced(0.01)).batch) == [1, 3, 4]
    assert ids(timed(*entries, timing=paced(0.001)).batch) == [1, 2, 3, 4]


def test_rather_than_in_a_short_batch_the_most_urgent_is_not_computed() -> None:
    """The fixed cost of a batch of few tokens is more than they cost."""
    entries = [at(1, 20, deadline=NOW + 0.5), at(2, 40), at(3, 20), at(4, 5)]
    found = timed(*entries, timing=paced(0.01, least_tokens=80))
    assert (ids(found.batch), ids(found.overloaded)) == ([2, 3, 4], [1])


def test_what_is_promised_waits_for_its_own_deadline_alone() -> None:
    alone = at(1, 60, deadline=NOW + 0.5, alone=True)
    promised = entry(alone.work, SOURCE, NOW, promised=True)
    assert ids(timed(alone, at(2), timing=paced(0.01)).overloaded) == [1]
    assert ids(timed(promised, at(2), timing=paced(0.01)).batch) == [1]
    assert ids(plan([promised], (), NOW + 0.5, BOUNDS, timing=paced(0.01)).expired) == [1]


def test_where_nothing_else_is_computed_one_is_whatever_the_pace_says() -> None:
    late = [at(number, 60, deadline=NOW + number / 10) for number in (1, 2, 3)]
    found = timed(*late, timing=paced(0.01, always=True))
    assert (ids(found.batch), ids(found.overloaded)) == ([3], [1, 2])
    assert timed(*late, timing=paced(0.01)).batch == ()


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
    found = made(entries, NOW, batch_tokens)
    tokens = sum(each.tokens for each in found.batch)
    alive = [each for each in sorted(entries) if each.work.deadline > NOW]
    firsts = [next((each for each in alive if is_bulk(each) is kind), None) for kind in (False, True)]
    assert tokens <= batch_tokens or len(found.batch) == 1
    assert all(each.work.deadline <= NOW for each in found.expired)
    assert all(each.work.deadline > NOW for each in found.batch)
    assert found.batch[0] in firsts if alive else not found.batch
    assert len(found.batch) == 1 or not any(each.work.alone for each in found.batch)


@given(ENTRIES, st.integers(1, 100))
def test_nothing_is_lost_and_nothing_comes_twice(entries: list[Entry], batch_tokens: int) -> None:
    queue = waiting(*entries)
    seen: list[int] = []
    while len(queue):
        found = queue.take(NOW, BatchBounds(batch_tokens, batch_tokens))
        assert found.batch or found.expired
        seen += ids(found.batch) + ids(found.expired)
        assert queue.tokens == sum(each.tokens for each in entries if each.work.id not in seen)
    assert sorted(seen) == sorted(each.work.id for each in entries)
    assert queue.tokens == 0
