from __future__ import annotations

import math
import time
from typing import Any

import pytest

from bertstream.workers.contract import BULK, Failure
from bertstream.workers.generation.queue import (
    SHORT_TURNS,
    Admission,
    Entry,
    GenerationQueue,
    Room,
    UnderWay,
    admit,
    rows_of,
)
from bertstream.workers.serving.scheduler import TURN_SECONDS, is_bulk, queued
from tests.support.generation import make_generate

NOW = 100.0
SOURCE, OTHER = object(), object()
ROOM = Room(rows=100, sequences=16, tokens=50)
LONG = SHORT_TURNS + 1


def at(work_id: int, tokens: int = 5, new: int = 5, *, arrival: float = NOW, **options: Any) -> Entry:
    work = make_generate(work_id, [1] * tokens, max_new_tokens=new, **options)
    return queued(work, SOURCE, arrival, rows_of(work))


def admitted(*entries: Entry, room: Room = ROOM, bulk_turn: float = NOW) -> Admission:
    interactive = sorted(each for each in entries if not is_bulk(each))
    return admit(interactive, sorted(each for each in entries if is_bulk(each)), NOW, room, bulk_turn)


def joining(*entries: Entry, room: Room = ROOM, bulk_turn: float = NOW) -> list[int]:
    return ids(admitted(*entries, room=room, bulk_turn=bulk_turn))


def ids(admission: Admission) -> list[int]:
    return [entry.work.id for entry in admission.joining]


def test_the_rows_that_an_input_may_come_to() -> None:
    assert rows_of(make_generate(1, [1] * 7, max_new_tokens=10)) == 17
    assert rows_of(make_generate(1, [1] * 7, max_new_tokens=10, num_beams=4, num_return_sequences=2)) == 47
    assert rows_of(make_generate(1, [1] * 7, max_new_tokens=10, num_return_sequences=3, do_sample=True)) == 37


def room(*under_way: tuple[Entry, int], **sizes: int) -> Room:
    """Return the room beside these, each of which is under way for some turns."""
    found = {"rows": 100, "sequences": 16, "tokens": 50} | sizes
    return Room(**found, under_way=[UnderWay(*each) for each in under_way])


def test_as_many_join_as_the_cache_is_sure_to_hold() -> None:
    assert joining(at(1, 5, 25), at(2, 5, 25), at(3, 5, 25), at(4, 5, 25)) == [1, 2, 3]


def test_what_has_ended_by_then_leaves_its_rows_to_those_that_grow() -> None:
    # 70 rows are wanted at first, 82 before the first ends, and 100 when the second does.
    assert joining(at(1, 30, 2), at(2, 20, 80), room=room((at(9, 15, 6), 4))) == [1, 2]
    assert joining(at(1, 30, 2), at(2, 20, 80), room=room((at(9, 15, 7), 4))) == [1, 2]
    assert joining(at(1, 30, 2), at(2, 20, 80), room=room((at(9, 15, 70), 4))) == [1]


def test_one_that_fits_beside_the_place_of_the_first_overtakes_it() -> None:
    # One is under way for 3 more turns and then 55 rows are taken by the first, up to 95 in the end.
    first, now = at(1, 55, 40), room((at(9, 40, 10), 7))
    assert joining(first, at(2, 10, 3), room=now) == [2]
    assert joining(first, at(2, 20, 20), at(3, 10, 10), room=now) == [3]
    assert joining(first, at(2, 10, 40), at(3, 10, 3), at(4, 8, 3), room=now) == [3, 4]


def test_who_is_overtaken_is_not_later_for_it() -> None:
    """Small ones come all the time; the first joins when those that were under way before it have ended."""
    waiting, under_way, small = [at(0, 75, 25)], [(at(90, 10, 20), 0), (at(91, 10, 30), 0)], 0
    for turn in range(30):
        waiting.append(at(turn + 1, 3, 4, arrival=NOW + 1 + turn))
        joined = admitted(*waiting, room=room(*under_way)).joining
        assert waiting[0] not in joined
        small += len(joined)
        waiting = [entry for entry in waiting if entry not in joined]
        older = [(entry, turns + 1) for entry, turns in (*under_way, *((entry, 0) for entry in joined))]
        under_way = [(entry, turns) for entry, turns in older if turns < entry.work.options.max_new_tokens]
    assert small > 20
    assert joining(*waiting, room=room(*under_way))[0] == 0


def test_bulk_work_whose_turn_it_is_overtakes_the_first_once() -> None:
    now, first, due = room((at(9, 40, 10), 7)), at(1, 55, 40), at(2, 10, 40, priority=BULK)
    late = NOW - TURN_SECONDS
    assert ids(admit([first], [due], NOW + TURN_SECONDS, now, late)) == [2]
    assert ids(admit([first], [due], NOW + TURN_SECONDS, now, late, overtaken=True)) == []
    beside = at(3, 5, 3, priority=BULK)  # gone when the first is sure to begin
    assert ids(admit([first], [beside], NOW + TURN_SECONDS, now, late, overtaken=True)) == [3]
    assert ids(admit([first], [due], NOW + TURN_SECONDS, room(), late, overtaken=True)) == [1]


def test_the_first_is_not_overtaken_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bulk work has a turn now and then, always before the first one, which needs most of the cache."""
    seconds = NOW
    monkeypatch.setattr(time, "monotonic", lambda: seconds)
    queue, under_way, turn = GenerationQueue(10_000, 100), [(at(90, 10, 30), 0)], 0
    queue.add(make_generate(0, [1] * 80, max_new_tokens=10), SOURCE)
    joined: list[int] = []
    while 0 not in joined and turn < 400:
        queue.add(make_generate(1000 + turn, [1] * 5, max_new_tokens=30, priority=BULK), SOURCE)
        new = queue.take(room(*under_way)).joining
        joined += [entry.work.id for entry in new]
        older = [(entry, turns + 1) for entry, turns in (*under_way, *((entry, 0) for entry in new))]
        under_way = [(entry, turns) for entry, turns in older if turns < entry.work.options.max_new_tokens]
        turn, seconds = turn + 1, seconds + 0.1
    assert 0 in joined
    assert len(joined) > 1  # it was overtaken, once
    assert turn == 52  # bulk work joined in turn 21, for 30 turns


def test_bulk_work_overtakes_nobody() -> None:
    now = room((at(9, 40, 10), 7))
    assert joining(at(1, 55, 40), at(2, 10, 3, priority=BULK), room=now) == []
    assert joining(at(1, 55, 40, priority=BULK), at(2, 10, 3, priority=BULK), room=now) == []


def test_long_work_leaves_sequences_to_short_work() -> None:
    ample = room(rows=10_000, tokens=1000)
    waiting = [at(number, 1, LONG, arrival=NOW + number) for number in range(20)]
    assert joining(*waiting, room=ample) == list(range(14))
    assert joining(*waiting, at(50, 1, SHORT_TURNS), at(51, arrival=NOW + 1), room=ample) == [
        0,
        50,
        1,
        51,
        *range(2, 14),
    ]
    assert joining(*[at(number, arrival=NOW + number) for number in range(20)], room=ample) == list(range(16))


def test_the_most_urgent_join_first() -> None:
    entries = [at(1, priority=BULK), at(2), at(3, deadline=NOW + 0.1), at(4, arrival=NOW - 0.5)]
    assert joining(*entries) == [3, 4, 2, 1]


def test_no_more_sequences_than_a_step_may_have() -> None:
    wide = {"num_beams": 10, "new": 1}
    assert joining(at(1, **wide), at(2, **wide)) == [1]
    assert joining(at(1, num_beams=20, new=1), at(2)) == [1]  # alone, rather than never
    # It waits for its turn, and who joins is gone by then.
    under_way = (at(9, 5, 4), 1)
    assert joining(at(1, num_beams=20, new=1), at(2, 5, 3), at(3, 5, 4), room=room(under_way)) == [2]


def test_no_more_tokens_than_are_computed_at_once_but_for_a_single_input() -> None:
    assert joining(at(1, 30, 1), at(2, 20, 1), at(3, 1, 1)) == [1, 2]
    assert joining(at(1, 60, 1), at(2, 1, 1)) == [1]
    assert joining(at(1, 30, 1), at(2, 30, 1), at(3, 5, 1)) == [1, 3]


def test_what_expired_is_told_apart() -> None:
    admission = admitted(at(1, deadline=NOW - 1), at(2), at(3, deadline=NOW), at(4, deadline=NOW, priority=BULK))
    assert ids(admission) == [2]
    assert [entry.work.id for entry in admission.expired] == [1, 3, 4]


def test_however_long_bulk_work_has_waited_interactive_work_goes_first() -> None:
    waiting = [at(number, priority=BULK, arrival=NOW - 600) for number in range(20)]
    assert joining(*waiting, at(50), at(51))[:3] == [50, 51, 0]


def test_one_of_bulk_work_has_a_turn_after_a_while() -> None:
    waiting = [at(number, priority=BULK, arrival=NOW - 600) for number in range(20)]
    assert joining(*waiting, at(50), at(51), bulk_turn=NOW - TURN_SECONDS)[:4] == [0, 50, 51, 1]


def test_bulk_work_leaves_a_part_of_the_room() -> None:
    waiting = [at(number, priority=BULK, arrival=NOW + number) for number in range(20)]
    assert joining(*waiting, at(50), room=room(rows=1000, tokens=1000)) == [50, *range(12)]
    assert joining(*waiting, at(50), room=room(tokens=1000)) == [50, *range(8)]  # 90 of 100 rows, 80 of 88 by bulk work


def test_bulk_work_whose_share_is_taken_holds_up_its_own_kind_alone() -> None:
    full = room((at(9, 80, 5, priority=BULK), 0))
    waiting = [at(1, 5, 15, priority=BULK, arrival=NOW - 9), at(2, 1, 1, priority=BULK), at(50)]
    assert joining(*waiting, room=full, bulk_turn=NOW - 9) == [50]


def test_bulk_work_may_have_more_than_its_share_rather_than_never() -> None:
    assert joining(at(1, 90, 5, priority=BULK), at(2, priority=BULK)) == [1]
    # It is its turn, and now all who would be in its way wait until there are rows enough for it.
    waiting = [at(1, 91, 5, priority=BULK, arrival=NOW - 9), at(50, 5, 5), at(51, 5, 2)]
    assert joining(*waiting, room=room((at(9, 5, 4), 2)), bulk_turn=NOW - 9) == [51]


@pytest.fixture
def queue() -> GenerationQueue:
    return GenerationQueue(queue_tokens=50, cache_tokens=100)


def test_the_bound_is_what_waiting_inputs_may_come_to(queue: GenerationQueue) -> None:
    assert queue.add(make_generate(1, [1] * 20, max_new_tokens=60), SOURCE) is None  # an empty one takes anything
    assert queue.add(make_generate(2), SOURCE) == Failure(2, "queue_full", "80 tokens wait already to be generated")
    queue.cancel(SOURCE, (1,))
    assert queue.add(make_generate(2), SOURCE) is None
    assert len(queue) == 1


def test_what_the_cache_can_never_hold_is_refused(queue: GenerationQueue) -> None:
    refused = queue.add(make_generate(1, [1] * 20, max_new_tokens=81), SOURCE)
    assert refused == Failure(1, "internal", "the cache has 100 rows, and this may need 101")


def test_an_idle_engine_is_woken(queue: GenerationQueue) -> None:
    woken: list[int] = []
    queue.arrived = lambda: woken.append(len(queue))
    queue.add(make_generate(1), SOURCE)
    queue.add(make_generate(2, [1] * 200), SOURCE)
    assert woken == [1]


def test_cancelling_reaches_what_waits_and_what_is_under_way(queue: GenerationQueue) -> None:
    for number in (1, 2, 3):
        queue.add(make_generate(number, [1, 2]), SOURCE)
    queue.add(make_generate(1, [1, 2]), OTHER)
    taken = queue.take(Room(rows=14, sequences=8, tokens=50)).joining
    assert [entry.work.id for entry in taken] == [1, 2]
    queue.cancel(SOURCE, (2, 3, 77))
    assert queue.cancelled() == {(SOURCE, 2)}
    assert len(queue) == 1
    for entry in taken:
        queue.left(entry, 1)
    queue.cancel(SOURCE, (1, 2))
    assert queue.cancelled() == frozenset()


def test_a_lost_connection_takes_all_of_its_own_with_it(queue: GenerationQueue) -> None:
    for number in (1, 2):
        queue.add(make_generate(number), SOURCE)
        queue.add(make_generate(number), OTHER)
    queue.take(Room(rows=16, sequences=8, tokens=50))
    queue.forget(SOURCE)
    assert queue.cancelled() == {(SOURCE, 1)}
    assert [entry.source for entry in queue.take(ROOM).joining] == [OTHER]


def test_times_are_the_clocks(queue: GenerationQueue) -> None:
    queue.add(make_generate(1, deadline=time.monotonic() - 1), SOURCE)
    queue.add(make_generate(2, deadline=math.inf), SOURCE)
    admission = queue.take(ROOM)
    assert [entry.work.id for entry in (*admission.joining, *admission.expired)] == [2, 1]


def test_a_turn_of_bulk_work_counts_from_its_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [NOW]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    wide = GenerationQueue(queue_tokens=1000, cache_tokens=100)
    for number in range(4):
        wide.add(make_generate(number, priority=BULK), SOURCE)
        wide.add(make_generate(10 + number), SOURCE)
    one = Room(rows=10, sequences=1, tokens=50)
    found = []
    for seconds in (1.0, 1.5, 0.5, 1.6):
        clock[0] += seconds
        found += ids(wide.take(one))
    assert found == [10, 0, 11, 1]


class Turning:
    """Run a queue whose turns take 0.1 s each, beside one generation that takes all of its turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sequences: int = 2, queue_seconds: float = math.inf) -> None:
        self.now = NOW
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.queue = GenerationQueue(queue_tokens=100_000, cache_tokens=10_000, queue_seconds=queue_seconds)
        self.sequences = sequences
        self.under_way: list[UnderWay] = []
        self.began: dict[int, float] = {}
        self.refused: dict[int, Failure] = {}

    def add(self, work_id: int, **options: Any) -> None:
        failure = self.queue.add(make_generate(work_id, **options), SOURCE)
        if failure is not None:
            self.refused[work_id] = failure

    def turn(self, *, seconds: float = 0.1) -> None:
        admission = self.queue.take(Room(10_000, self.sequences, 1000, self.under_way))
        for entry in admission.joining:
            self.began[entry.work.id] = self.now
        for entry in admission.overloaded:
            self.refused[entry.work.id] = Failure(entry.work.id, "overloaded", "in its turn")
        self.now += seconds
        older = [UnderWay(each.entry, each.turns + 1) for each in self.under_way]
        under_way = [*older, *(UnderWay(entry, 1) for entry in admission.joining)]
        self.under_way = [each for each in under_way if each.turns < each.entry.work.options.max_new_tokens]
        for each in under_way:
            if each not in self.under_way:
                self.queue.left(each.entry, each.turns)
        if not self.under_way and not len(self.queue):
            self.queue.rests()

    def measured(self) -> None:
        self.add(-1, max_new_tokens=20)
        for _ in range(20):
            self.turn()


def test_what_could_not_begin_by_its_deadline_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    turning = Turning(monkeypatch)
    turning.measured()
    for number in (1, 2):  # two seconds, in all sequences
        turning.add(number, max_new_tokens=20)
    turning.turn()
    turning.add(3, deadline=turning.now + 1.5)
    turning.add(4, deadline=turning.now + 2.5, max_new_tokens=1000)  # it can begin, and may end early
    assert list(turning.refused) == [3]
    failure = turning.refused[3]
    assert failure.reason == "overloaded"
    assert failure.retry_seconds == pytest.approx(0.5, abs=0.11)
    assert failure.wait_seconds == pytest.approx(2, abs=0.11)
    while 4 not in turning.began:
        turning.turn()
    assert 4 not in turning.refused


def test_with_no_deadline_what_would_begin_too_late_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    turning = Turning(monkeypatch, queue_seconds=10.0)
    turning.measured()
    for number in range(1, 101):
        turning.add(number, max_new_tokens=20)
        turning.turn()
    while len(turning.queue):
        turning.turn()
    assert len(turning.refused) > 50
    assert {failure.reason for failure in turning.refused.values()} == {"overloaded"}
    assert max(turning.began[number] - (NOW + 2 + (number - 1) / 10) for number in turning.began if number > 0) < 11


def test_bulk_work_waits_unless_it_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    turning = Turning(monkeypatch, queue_seconds=1.0)
    turning.measured()
    for number in range(1, 20):
        turning.add(number, max_new_tokens=20, priority=BULK)
    turning.turn()
    turning.add(100, priority=BULK)
    turning.add(101, priority=BULK, deadline=turning.now + 1)
    assert list(turning.refused) == [101]


def test_neither_a_suspect_is_refused_nor_what_a_lost_worker_had_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    turning = Turning(monkeypatch, queue_seconds=1.0)
    turning.measured()
    for number in (1, 2):
        turning.add(number, max_new_tokens=20)
    turning.turn()
    turning.add(3)
    turning.add(4, alone=True)
    turning.add(5, admitted=True)
    assert list(turning.refused) == [3]


def test_an_idle_worker_takes_what_comes_however_slow_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    turning = Turning(monkeypatch)
    turning.add(1, max_new_tokens=2)
    turning.turn(seconds=50)
    turning.turn(seconds=50)
    turning.now += 1000
    assert turning.queue.wait_seconds == 0
    turning.add(2, deadline=turning.now + 1)
    turning.turn()
    assert 2 in turning.began


def test_callers_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turning = Turning(monkeypatch, sequences=1)
    for number in range(10):
        turning.add(number, caller="greedy", max_new_tokens=1)
    turning.turn()
    for number in (20, 21, 22):
        turning.add(number, caller="modest", max_new_tokens=1)
    for _ in range(6):
        turning.turn()
    assert list(turning.began) == [0, 1, 20, 2, 21, 3, 22]


def test_who_could_not_have_a_turn_any_more_is_told_apart() -> None:
    waiting = [at(1, deadline=NOW + 0.1), at(2, deadline=NOW + 0.3)]
    busy = room((at(9, 5, 50), 1))
    found = admit(waiting, [], NOW, busy, turn_seconds=0.2)
    assert ([each.work.id for each in found.joining], [each.work.id for each in found.overloaded]) == ([2], [1])
    assert ids(admit(waiting, [], NOW, room(), turn_seconds=0.2)) == [1, 2]  # who is alone is not refused
