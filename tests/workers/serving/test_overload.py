"""Test that more is asked for than can be computed: the real queue in simulated time, with a simulated engine."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from statistics import median

import pytest

from bertstream.workers.contract import BULK
from bertstream.workers.serving import queue as queue_module
from bertstream.workers.serving.pace import short_batch
from tests.support.overload import Call, Clock, Engine, Simulated, bulk_calls, engine, open_loop

# A model of 20 million parameters on one core, and on a GPU, where the fixed cost of a batch weighs more.
CPU = (0.002, 0.0002, 1024)
GPU = (0.002, 1.2e-6, 16384)
SIZES = (8, 12, 20, 20, 40, 120, 300)
MEAN = sum(SIZES) / len(SIZES)
START = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(queue_module, "time", made)
    return made


def some_size(dice: random.Random) -> int:
    return dice.choice(SIZES)


def capacity(fixed: float, each: float, batch_tokens: int) -> float:
    """Return the tokens that can be computed in a second."""
    return batch_tokens / (fixed + each * batch_tokens)


def flood(load: float, seconds: float, rate: float = capacity(*CPU), deadline: float = 2.0) -> Iterator[Call]:
    """Yield calls for `load` times what can be computed."""
    return open_loop(START, START + seconds, load * rate / MEAN, some_size, seconds=deadline)


def good_tokens(calls: list[Call], until: float = math.inf) -> int:
    """Return the tokens that were answered in time, and before `until`."""
    return sum(call.tokens for call in calls if call.in_time and call.answered <= until)


def late(calls: list[Call]) -> list[Call]:
    """Return the calls that were computed in vain."""
    return [call for call in calls if call.answered < math.inf and not call.in_time]


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("load", [1, 2, 5, 10])
def test_what_can_be_done_is_done_and_the_rest_is_refused_at_once(clock: Clock, load: float, noise: float) -> None:
    worker = Simulated(clock, engine(*CPU[:2], noise))
    worker.run(flood(load, 20))
    assert good_tokens(worker.calls, START + 20) >= 0.9 * 20 * capacity(*CPU)
    assert not late(worker.calls)
    refused = [call for call in worker.calls if call.failure]
    at_once = [call for call in refused if call.refused == call.at]
    assert len(at_once) >= 0.9 * len(refused)
    for call in at_once:
        assert call.failure is not None
        assert call.failure.reason == "overloaded"
        assert 0 < call.failure.retry_seconds < 2
        assert 0 <= call.failure.wait_seconds < 0.5  # another caller's would go before most of what waits


def test_on_a_fast_device_with_dear_batches_too(clock: Clock) -> None:
    worker = Simulated(clock, engine(*GPU[:2], noise=0.1), GPU[2], interactive_tokens=GPU[2])
    worker.run(flood(2, 1, capacity(*GPU), deadline=0.3))
    assert good_tokens(worker.calls, START + 1) >= 0.9 * capacity(*GPU)
    assert len(late(worker.calls)) < 10  # of 20,000


def test_beside_bulk_work_which_keeps_its_turns(clock: Clock) -> None:
    worker = Simulated(clock, engine(*CPU[:2], 0.1))
    stream = bulk_calls(START, 20, 512, a_second=4)
    worker.run([*flood(2, 20), *stream], until=20)
    interactive = [call for call in worker.calls if call.priority != BULK]
    bulk = [call for call in worker.calls if call.priority == BULK]
    done = good_tokens(interactive) + good_tokens(bulk)
    assert done >= 0.9 * 20 * capacity(*CPU)
    assert good_tokens(bulk) >= 8 * 1024  # a batch every two seconds
    assert not any(call.failure for call in bulk)  # it waits
    assert not late(interactive)


def test_when_it_is_over_waits_are_soon_as_ever(clock: Clock) -> None:
    worker = Simulated(clock, engine(*CPU[:2], 0.1))
    after = [Call(START + 13 + n / 10, 20, "", 0.5) for n in range(50)]
    worker.run([*flood(10, 10), *after])
    assert all(call.in_time for call in after)
    assert max(call.wait for call in after) < 0.02
    assert worker.queue.wait_seconds == 0


def test_within_a_second_of_it_short_calls_are_answered(clock: Clock) -> None:
    worker = Simulated(clock, engine(*CPU[:2], 0.1))
    after = [Call(START + 10 + 1 + n / 10, 20, "", 2.0) for n in range(20)]
    worker.run([*flood(10, 10, deadline=1.0), *after])
    assert all(call.in_time for call in after)
    assert max(call.wait for call in after) < 0.25  # a batch at hand, and its own


def slower_for_a_while(clock_start: float, begins: float, ends: float) -> Engine:
    normal = engine(*CPU[:2], 0.1)
    return lambda tokens, now: (3 if clock_start + begins <= now < clock_start + ends else 1) * normal(tokens, now)


def test_a_worker_that_is_slowed_down_to_a_third_finds_out_both_ways(clock: Clock) -> None:
    worker = Simulated(clock, slower_for_a_while(START, 10, 20))
    worker.run(flood(3, 30))
    rate = capacity(*CPU)

    def done(begins: float, ends: float) -> float:
        return sum(c.tokens for c in worker.calls if c.in_time and START + begins <= c.answered < START + ends)

    assert done(0, 10) >= 0.9 * 10 * rate
    assert done(13, 20) >= 0.85 * 7 * rate / 3
    assert done(22, 30) >= 0.9 * 8 * rate
    assert sum(call.tokens for call in late(worker.calls)) < 3 * 1024


def test_a_pace_that_was_measured_far_too_slow_is_measured_anew(clock: Clock) -> None:
    """One batch was held up, so that no call seems to be answered in time."""
    held_up = [20.0]
    normal = engine(*CPU[:2])
    worker = Simulated(clock, lambda tokens, now: held_up.pop() if held_up else normal(tokens, now))
    worker.run([Call(START, 20), *(Call(START + 30 + n / 5, 20, "", 0.5) for n in range(50))])
    assert all(call.in_time for call in worker.calls)


def test_nothing_is_refused_before_anything_was_measured(clock: Clock) -> None:
    worker = Simulated(clock, engine(*CPU[:2]))
    worker.run([Call(START, 20, "", 0.1) for _ in range(1000)], until=0.001)
    assert not any(call.refused == START for call in worker.calls)


def test_without_a_deadline_no_more_waits_than_begins_within_queue_seconds(clock: Clock) -> None:
    worker = Simulated(clock, engine(*CPU[:2], 0.1), queue_seconds=3.0)
    worker.run(flood(5, 20, deadline=math.inf))
    answered = [call for call in worker.calls if not call.failure]
    assert max(call.wait for call in answered) < 4  # and its batch, and batches are not quite full
    assert good_tokens(worker.calls, START + 20) >= 0.9 * 20 * capacity(*CPU)


def closed_loop(call: Call, now: float) -> Call:
    """Call again after an answer, and soon after a refusal."""
    pause = call.failure.retry_seconds if call.failure else 0.0
    return Call(now + pause, call.tokens, call.caller, call.seconds, call.priority, call.weight)


def shares(worker: Simulated, names: tuple[str, ...], tokens: int = 20, many: int = 200) -> dict[str, float]:
    """Return the callers' shares of what was computed; the first has many calls at a time, and the others one each."""
    greedy = [Call(START, tokens, names[0], 5.0) for _ in range(many)]
    modest = [Call(START, tokens, name, 5.0) for name in names[1:]]
    worker.run([*greedy, *modest], until=30, again=closed_loop)
    total = sum(worker.computed.values())
    return {name: worker.computed[name] / total for name in names}


def test_one_call_at_a_time_is_answered_with_the_next_batch_beside_an_endless_queue(clock: Clock) -> None:
    worker = Simulated(clock, engine(*CPU[:2]), batch_tokens=256)
    shares(worker, ("greedy", "modest"))
    waits = [call.wait for call in worker.calls if call.caller == "modest" and call.answered < math.inf]
    assert len(waits) > 200
    assert max(waits[1:]) <= 2 * (0.002 + 0.0002 * 256) + 1e-9  # the one at hand, and its own
    assert not any(call.failure for call in worker.calls if call.caller == "modest")


def test_beside_an_endless_queue_it_waits_for_short_batches_and_hardly_less_is_computed(clock: Clock) -> None:
    small, large = ((tokens, CPU[0] + CPU[1] * tokens) for tokens in (8, 128))
    assert short_batch(small, large, CPU[2]) == Simulated(clock, engine(*CPU[:2])).queue.interactive_tokens
    worker = Simulated(clock, engine(*CPU[:2], 0.1))
    shares(worker, ("greedy", "modest"))
    waits = [call.wait for call in worker.calls if call.caller == "modest" and call.answered < math.inf]
    assert median(waits) <= 0.2  # the one at hand, and its own
    assert sum(worker.computed.values()) >= 0.97 * 30 * capacity(*CPU)


def test_200_connections_of_one_caller_have_the_share_of_one(clock: Clock) -> None:
    """The other has one call at a time, as large as a batch."""
    worker = Simulated(clock, engine(*CPU[:2]), batch_tokens=1024)
    greedy = [Call(START, 20, "greedy") for _ in range(200)]
    worker.run([*greedy, *(Call(START, 500, "modest") for _ in range(2))], until=60, again=closed_loop)
    assert worker.computed["modest"] / sum(worker.computed.values()) == pytest.approx(0.5, abs=0.05)


def test_shares_are_by_weight(clock: Clock) -> None:
    worker = Simulated(clock, engine(*CPU[:2]), batch_tokens=1024)
    calls = [Call(START, 20, name, weight=weight) for name, weight in (("a", 1.0), ("b", 3.0)) for _ in range(300)]
    worker.run(calls, until=30, again=closed_loop)
    assert worker.computed["b"] / worker.computed["a"] == pytest.approx(3, rel=0.05)


def test_who_was_idle_has_no_credit(clock: Clock) -> None:
    worker = Simulated(clock, engine(*CPU[:2]), batch_tokens=1024)
    early = [Call(START, 20, "early") for _ in range(300)]
    late_ones = [Call(START + 30, 20, "late") for _ in range(300)]
    worker.run([*early, *late_ones], until=30, again=closed_loop)
    before = worker.computed["early"]
    worker.run([], until=10, again=closed_loop)
    assert worker.computed["late"] == pytest.approx(worker.computed["early"] - before, rel=0.1)


def test_under_overload_by_some_others_are_answered(clock: Clock) -> None:
    """One caller floods; fifty others ask now and then."""
    worker = Simulated(clock, engine(*CPU[:2], 0.1))
    modest = [
        call
        for n in range(50)
        for call in open_loop(START, START + 20, 0.5, some_size, seed=n, caller=f"c{n}", seconds=2.0)
    ]
    greedy = list(flood(5, 20))
    worker.run([*greedy, *modest])
    answered = sum(call.in_time for call in modest)
    assert answered >= 0.99 * len(modest)
    assert not late(worker.calls)
    assert good_tokens(worker.calls, START + 20) >= 0.9 * 20 * capacity(*CPU)
