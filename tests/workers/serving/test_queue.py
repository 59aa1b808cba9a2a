from __future__ import annotations

import math
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from bertstream.workers.contract import BULK, Failure
from bertstream.workers.serving import queue as queue_module
from bertstream.workers.serving.queue import WorkQueue
from bertstream.workers.serving.scheduler import TURN_SECONDS, Plan
from tests.support.overload import Clock
from tests.support.works import make_work

SOURCE = object()


def taken(queue: WorkQueue) -> list[int]:
    """Return the ids of the next batch, which the engine computes at once."""
    found = prepared(queue)
    queue.prepared_is_taken()
    return found


def prepared(queue: WorkQueue) -> list[int]:
    plan = queue.take()
    assert plan is not None
    return [each.work.id for each in plan.batch]


def taken_now(queue: WorkQueue) -> list[int]:
    return [each.work.id for each in queue.take_now().batch]


@pytest.fixture
def queue() -> WorkQueue:
    return WorkQueue(queue_tokens=100, batch_tokens=50)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(queue_module, "time", made)
    return made


def test_the_bound_is_in_tokens(queue: WorkQueue) -> None:
    assert queue.add(make_work(1, [60]), SOURCE) is None
    assert queue.add(make_work(2, [40]), SOURCE) is None
    assert queue.add(make_work(3, [1]), SOURCE) == Failure(3, "queue_full", "100 tokens wait already")
    assert queue.waiting_tokens == 100


def test_an_empty_queue_takes_anything(queue: WorkQueue) -> None:
    assert queue.add(make_work(1, [1000]), SOURCE) is None
    assert queue.add(make_work(2, [1]), SOURCE) is not None


def test_what_is_cancelled_or_forgotten_gives_its_room_back(queue: WorkQueue) -> None:
    other = object()
    for number in (1, 2):
        queue.add(make_work(number, [20]), SOURCE)
        queue.add(make_work(number, [20]), other)
    queue.cancel(SOURCE, (1, 2, 77))
    assert queue.waiting_tokens == 40
    queue.forget(other)
    assert queue.waiting_tokens == 0


def test_an_idle_engine_gets_whatever_waits_at_once(queue: WorkQueue) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.wait_for_work)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        queue.add(make_work(1, [1]), SOURCE)
        assert waiting.result(20) is False
        assert taken_now(queue) == [1]


def test_an_idle_engine_waits_for_a_batch_that_is_being_prepared(queue: WorkQueue) -> None:
    queue.add(make_work(1, [50]), SOURCE)
    assert prepared(queue) == [1]
    assert queue.wait_for_work() is True
    assert taken_now(queue) == []


def test_an_idle_engine_is_woken_once(queue: WorkQueue) -> None:
    with ThreadPoolExecutor(1) as pool:
        queue.wake()
        assert queue.wait_for_work() is False
        waiting = pool.submit(queue.wait_for_work)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        queue.wake()
        assert waiting.result(20) is False


def test_what_comes_beside_an_idle_engine_s_work_is_prepared_meanwhile(queue: WorkQueue) -> None:
    with ThreadPoolExecutor(2) as pool:
        preparing, waiting = pool.submit(prepared, queue), pool.submit(queue.wait_for_work)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        for number in (1, 2):
            queue.add(make_work(number, [50]), SOURCE)
        waiting.result(20)
        seen = [*taken_now(queue), *preparing.result(20)]
        queue.prepared_is_taken()  # where it was prepared before the engine looked
        assert sorted([*seen, *taken_now(queue)]) == [1, 2]


def test_while_the_engine_computes_only_a_full_batch_is_taken_ahead(queue: WorkQueue) -> None:
    with ThreadPoolExecutor(1) as pool:
        queue.add(make_work(1, [30]), SOURCE)
        future: Future[Plan | None] = pool.submit(queue.take)
        with pytest.raises(TimeoutError):
            future.result(0.05)
        queue.add(make_work(2, [20]), SOURCE)
        plan = future.result(10)
        assert plan is not None
        assert [each.work.id for each in plan.batch] == [1, 2]


def test_an_idle_engine_is_told_of_work_that_has_expired(queue: WorkQueue) -> None:
    queue.add(make_work(1, [10], deadline=0.0), SOURCE)
    assert queue.wait_for_work() is False
    plan = queue.take_now()
    assert ([e.work.id for e in plan.expired], plan.batch) == ([1], ())


def test_closing_ends_the_wait(queue: WorkQueue) -> None:
    with ThreadPoolExecutor(2) as pool:
        future, idle = pool.submit(queue.take), pool.submit(queue.wait_for_work)
        queue.close()
        assert future.result(10) is None
        assert idle.result(10) is True  # for the end, which comes as a prepared batch does


def test_many_threads_add_and_one_takes_all() -> None:
    queue = WorkQueue(queue_tokens=10**6, batch_tokens=16)
    sources = [object() for _ in range(4)]
    threads = [
        threading.Thread(target=lambda s=source: [queue.add(make_work(i, [1]), s) for i in range(200)])
        for source in sources
    ]
    for thread in threads:
        thread.start()
    seen: set[tuple[int, int]] = set()
    while len(seen) < 800:
        queue.wait_for_work()
        plan = queue.take_now()
        keys = {(id(each.source), each.work.id) for each in plan.batch}
        assert len(plan.batch) <= 16
        assert not keys & seen
        seen |= keys
    for thread in threads:
        thread.join()
    assert queue.waiting_tokens == 0


def test_an_engine_that_has_other_things_to_do_takes_what_there_is(queue: WorkQueue) -> None:
    assert queue.take_now().batch == ()
    for number in range(3):
        queue.add(make_work(number, [20]), SOURCE)
    assert [each.work.id for each in queue.take_now().batch] == [0, 1]
    assert queue.waiting_tokens == 20


def test_interactive_work_goes_before_a_batch_of_bulk_work_that_is_prepared(queue: WorkQueue) -> None:
    queue.add(make_work(1, [50], priority=BULK), SOURCE)
    assert prepared(queue) == [1]
    assert taken_now(queue) == []
    queue.add(make_work(2, [10]), SOURCE)
    queue.add(make_work(3, [30], priority=BULK), SOURCE)
    assert taken_now(queue) == [2]
    assert taken_now(queue) == []
    assert queue.waiting_tokens == 30


def test_bulk_work_is_prepared_without_the_interactive_work_that_waits(queue: WorkQueue) -> None:
    queue.add(make_work(1, [10]), SOURCE)
    queue.add(make_work(2, [45], priority=BULK), SOURCE)
    queue.add(make_work(3, [5], priority=BULK), SOURCE)
    assert prepared(queue) == [2, 3]
    assert taken_now(queue) == [1]


def test_no_more_than_one_batch_is_prepared_ahead(queue: WorkQueue) -> None:
    queue.add(make_work(1, [50], priority=BULK), SOURCE)
    queue.add(make_work(2, [50], priority=BULK), SOURCE)
    with ThreadPoolExecutor(1) as pool:
        assert prepared(queue) == [1]
        future = pool.submit(prepared, queue)
        with pytest.raises(TimeoutError):
            future.result(0.05)
        queue.prepared_is_taken()
        assert future.result(20) == [2]


def test_a_full_batch_of_interactive_work_is_prepared_ahead_and_not_overtaken(queue: WorkQueue) -> None:
    queue.add(make_work(1, [50]), SOURCE)
    assert prepared(queue) == [1]
    queue.add(make_work(2, [10]), SOURCE)
    assert taken_now(queue) == []
    queue.prepared_is_taken()
    assert taken_now(queue) == [2]


def test_a_batch_of_bulk_work_is_not_overtaken_for_ever(queue: WorkQueue, clock: Clock) -> None:
    queue.add(make_work(1, [50], priority=BULK), SOURCE)
    assert prepared(queue) == [1]
    for number in range(10, 14):
        queue.add(make_work(number, [10]), SOURCE)
        assert taken_now(queue) == [number]
        clock.now += TURN_SECONDS / 4
    queue.add(make_work(14, [10]), SOURCE)
    assert taken_now(queue) == []  # so the prepared one is computed


def test_its_turn_lasts_as_long_as_it_takes(queue: WorkQueue, clock: Clock) -> None:
    """The time until the next one counts from the end of a batch, so that interactive work has its turn too."""
    for number in (1, 2):
        queue.add(make_work(number, [50], priority=BULK), SOURCE)
    assert taken(queue) == [1]
    assert prepared(queue) == [2]
    clock.now += 10 * TURN_SECONDS
    queue.add(make_work(3, [10]), SOURCE)
    assert taken_now(queue) == [3]


def test_a_closed_queue_gives_nothing(queue: WorkQueue) -> None:
    queue.add(make_work(1, [10]), SOURCE)
    queue.close()
    assert taken_now(queue) == []


@pytest.fixture
def steady(clock: Clock) -> WorkQueue:
    """Return a queue with a measured pace: a token takes 10 ms, and a batch of 50 tokens half a second."""
    made = WorkQueue(queue_tokens=100_000, batch_tokens=50, queue_seconds=10.0)
    for number in range(-20, 0):
        tokens = 10 if number % 2 else 50
        assert made.add(make_work(number, [tokens]), SOURCE) is None
        compute(made, clock, tokens * 0.01)
    return made


def compute(queue: WorkQueue, clock: Clock, seconds: float) -> list[int]:
    """Compute the next batch in this many seconds, and return its ids."""
    found = taken_now(queue)
    clock.now += seconds
    queue.computed()
    return found


def wait_for(queue: WorkQueue, clock: Clock, work_id: int, tokens: int, **options: Any) -> Failure | None:
    """Add work whose deadline is in this many seconds."""
    seconds = options.pop("seconds", math.inf)
    return queue.add(make_work(work_id, [tokens], deadline=clock.now + seconds, **options), SOURCE)


def fill(queue: WorkQueue, tokens: int, **options: Any) -> None:
    """Have one batch taken, and this many tokens waiting, ten each."""
    assert queue.add(make_work(1000, [50]), SOURCE) is None
    assert taken_now(queue) == [1000]
    for number in range(tokens // 10):
        assert queue.add(make_work(2000 + number, [10], **options), SOURCE) is None


def test_what_would_be_late_is_refused_and_told_when_it_would_fit(steady: WorkQueue, clock: Clock) -> None:
    fill(steady, 200)  # half a second for the batch at hand, and two for those that wait
    assert wait_for(steady, clock, 1, 10, seconds=0.9) is None  # it goes before what has no deadline
    refused = wait_for(steady, clock, 2, 10, seconds=2.0)  # not before what has waited for longer
    assert refused is not None
    assert refused.reason == "overloaded"
    assert refused.retry_seconds == pytest.approx(1, abs=0.1)
    assert refused.wait_seconds == pytest.approx(0.5, abs=0.05)  # that of others, who go before most of it
    assert refused.message == "it would not be answered in time"


def test_what_would_have_another_of_its_caller_late_is_refused(steady: WorkQueue, clock: Clock) -> None:
    fill(steady, 0)
    assert wait_for(steady, clock, 1, 40, seconds=1.05) is None
    assert wait_for(steady, clock, 2, 20, seconds=0.8) is not None
    assert wait_for(steady, clock, 3, 5, seconds=0.8) is None
    assert wait_for(steady, clock, 4, 10, seconds=1.1, caller="another") is None  # which has a share of its own


def test_without_a_deadline_it_waits_for_queue_seconds_at_most(steady: WorkQueue, clock: Clock) -> None:
    fill(steady, 900)
    assert wait_for(steady, clock, 1, 10) is None
    for number in range(2, 20):
        refused = wait_for(steady, clock, number, 10)
    assert refused is not None
    assert refused.reason == "overloaded"


def test_bulk_work_waits_without_end_but_not_past_its_deadline(steady: WorkQueue, clock: Clock) -> None:
    fill(steady, 5000, priority=BULK)
    assert wait_for(steady, clock, 1, 10, priority=BULK, seconds=1.0) is None  # it goes before the others
    refused = wait_for(steady, clock, 2, 10, priority=BULK, seconds=0.55)
    assert refused is not None
    assert refused.reason == "overloaded"


def test_turns_of_bulk_work_are_waited_for(steady: WorkQueue, clock: Clock) -> None:
    """It has one batch, since 3 s of work wait and a turn comes every 2 s."""
    fill(steady, 250)
    for number in range(10, 12):
        assert wait_for(steady, clock, number, 50, priority=BULK) is None
    clock.now += 0.01
    assert not refused_at(steady, clock, 4.2)
    assert refused_at(steady, clock, 3.8)
    steady.cancel(SOURCE, (10, 11))
    assert not refused_at(steady, clock, 3.8)


def refused_at(queue: WorkQueue, clock: Clock, seconds: float) -> bool:
    """Return whether ten tokens with that deadline are refused; they do not stay."""
    failure = wait_for(queue, clock, 1, 10, seconds=seconds)
    queue.cancel(SOURCE, (1,))
    return failure is not None


def test_a_suspect_is_refused_for_no_time(steady: WorkQueue, clock: Clock) -> None:
    fill(steady, 200)
    assert wait_for(steady, clock, 1, 10, seconds=0.1) is not None
    assert wait_for(steady, clock, 2, 10, seconds=0.1, alone=True) is None


def test_what_a_lost_worker_had_let_in_is_refused_for_no_time(steady: WorkQueue, clock: Clock) -> None:
    fill(steady, 900)
    while wait_for(steady, clock, 1, 10) is None:
        pass  # until they are more than `queue_seconds`
    assert wait_for(steady, clock, 2, 10, admitted=True) is None


def test_an_idle_worker_takes_what_comes(steady: WorkQueue, clock: Clock) -> None:
    assert steady.wait_seconds == 0
    assert wait_for(steady, clock, 1, 50, seconds=0.01) is None
    assert taken_now(steady) == [1]
    assert steady.wait_seconds == pytest.approx(0.5, abs=0.05)
    clock.now += 0.2
    assert steady.wait_seconds == pytest.approx(0.3, abs=0.05)


def test_what_cannot_be_ready_any_more_is_not_computed(steady: WorkQueue, clock: Clock) -> None:
    fill(steady, 0)
    assert wait_for(steady, clock, 1, 40, seconds=1.1) is None
    assert wait_for(steady, clock, 2, 40) is None
    clock.now += 1.0  # the batch at hand takes twice as long as was thought
    steady.computed()
    plan = steady.take_now()
    assert ([each.work.id for each in plan.overloaded], [each.work.id for each in plan.batch]) == ([1], [2])
