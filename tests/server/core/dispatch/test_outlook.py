"""Calls are refused before any work, by what workers said last."""

from __future__ import annotations

import math

import pytest

from bertstream.server.core.dispatch import outlook as outlook_module
from bertstream.server.core.dispatch.outlook import Outlook, Wait
from bertstream.server.core.errors import Code, RequestError
from tests.support.waiting import Clock, stopped_clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return stopped_clock(monkeypatch, outlook_module)


def outlook_on(*waits: Wait) -> Outlook:
    return Outlook(lambda: waits)


def busy(seconds: float) -> Wait:
    wait = Wait()
    wait.say(seconds)
    return wait


def refusal(outlook: Outlook, caller: str, deadline: float) -> RequestError | None:
    try:
        outlook.check(caller, deadline)
    except RequestError as error:
        return error
    return None


def test_a_worker_that_has_said_nothing_keeps_nobody_out(clock: Clock) -> None:
    assert refusal(outlook_on(Wait()), "a", clock.now + 0.001) is None
    assert refusal(outlook_on(), "a", clock.now + 0.001) is None


def test_what_no_worker_could_answer_in_time_is_refused(clock: Clock) -> None:
    outlook = outlook_on(busy(5.0), busy(3.0))
    assert refusal(outlook, "a", clock.now + 3.5) is None
    error = refusal(outlook, "a", clock.now + 2.0)
    assert error is not None
    assert (error.code, error.reason, error.retry_seconds) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED", 1.0)
    assert refusal(outlook, "a", math.inf) is None


def test_a_call_whose_time_is_over_is_told_so_and_not_to_try_again(clock: Clock) -> None:
    for outlook in (outlook_on(), outlook_on(busy(0.0)), outlook_on(busy(5.0))):
        for deadline in (clock.now, clock.now - 1.0):
            error = refusal(outlook, "a", deadline)
            assert error is not None
            assert (error.code, error.retry_seconds) == (Code.DEADLINE_EXCEEDED, None)


def test_what_was_said_grows_old(clock: Clock) -> None:
    wait = busy(3.0)
    outlook = outlook_on(wait)
    assert refusal(outlook, "a", clock.now + 1.0) is not None
    clock.now += 2.5
    assert refusal(outlook, "a", clock.now + 1.0) is None
    clock.now += 100
    assert wait.left(clock.now) == 0.0


def test_a_caller_that_a_worker_has_refused_is_refused_at_once_for_a_moment(clock: Clock) -> None:
    outlook = outlook_on(busy(1.5), busy(1.0))
    outlook.refused("a", clock.now + 2.0, retry_seconds=5.0)
    error = refusal(outlook, "a", clock.now + 2.0)
    assert error is not None
    assert error.retry_seconds == 0.25
    assert refusal(outlook, "a", clock.now + 2.1) is None  # it has more time
    assert refusal(outlook, "b", clock.now + 2.0) is None
    clock.now += 0.26
    assert refusal(outlook, "a", clock.now + 2.0) is None


def test_a_moment_is_short_beside_what_the_call_might_have_waited(clock: Clock) -> None:
    wait = busy(0.07)
    outlook = outlook_on(wait)
    outlook.refused("a", clock.now + 0.08, retry_seconds=5.0)
    clock.now += 0.011
    wait.say(0.0)
    assert refusal(outlook, "a", clock.now + 0.01) is None
    wait.say(7.0)
    outlook.refused("a", clock.now + 8.0, retry_seconds=0.05)
    clock.now += 0.06
    wait.say(0.0)
    assert refusal(outlook, "a", clock.now + 1.0) is None


def test_no_worker_runs_idle_meanwhile(clock: Clock) -> None:
    wait = busy(0.1)
    outlook = outlook_on(busy(9.0), wait)
    outlook.refused("a", clock.now + 2.0, retry_seconds=5.0)
    clock.now += 0.04
    assert refusal(outlook, "a", clock.now + 1.0) is not None
    clock.now += 0.02
    assert refusal(outlook, "a", clock.now + 1.0) is None
    wait.say(0.0)
    outlook.refused("a", clock.now + 2.0, retry_seconds=5.0)
    assert refusal(outlook, "a", clock.now + 1.0) is None


def test_a_caller_with_much_under_way_is_remembered_for_longer(clock: Clock) -> None:
    outlook = Outlook(lambda: [busy(0.02)], lambda caller: 0.4 if caller == "a" else 0.0)
    for caller in ("a", "b"):
        outlook.refused(caller, clock.now + 2.0, retry_seconds=5.0)
    clock.now += 0.15
    assert refusal(outlook, "a", clock.now + 1.0) is not None
    assert refusal(outlook, "b", clock.now + 1.0) is None
    clock.now += 0.06
    assert refusal(outlook, "a", clock.now + 1.0) is None


def test_so_many_callers_are_remembered_and_no_more(clock: Clock) -> None:
    wait = Wait()
    outlook = outlook_on(wait)
    wait.say(0.9)
    for number in range(5000):
        outlook.refused(f"caller-{number}", clock.now + 2.0, retry_seconds=1.0)
    assert refusal(outlook, "caller-0", clock.now + 1.0) is not None
    assert refusal(outlook, "caller-4999", clock.now + 1.0) is None
    clock.now += 1.0
    wait.say(0.9)
    outlook.refused("caller-4999", clock.now + 2.0, retry_seconds=1.0)
    assert refusal(outlook, "caller-4999", clock.now + 1.0) is not None


def test_a_call_behind_its_caller_s_own_work_is_refused_without_asking_a_worker(clock: Clock) -> None:
    behind = {"a": 2.5}
    outlook = Outlook(lambda: [Wait()], lambda caller: behind.get(caller, 0.0))
    error = refusal(outlook, "a", clock.now + 2.0)
    assert error is not None
    assert (error.reason, error.retry_seconds) == ("OVERLOADED", 0.5)
    assert refusal(outlook, "a", clock.now + 3.0) is None
    assert refusal(outlook, "b", clock.now + 2.0) is None
    assert refusal(outlook, "a", clock.now + 0.5) is None  # goes before the caller's patient calls


def test_the_more_of_a_caller_s_calls_are_refused_the_later_it_is_to_try_again(clock: Clock) -> None:
    outlook = outlook_on(busy(30.0))
    waits = []
    for _ in range(2000):
        error = refusal(outlook, "a", clock.now + 29.9)
        assert error is not None
        waits.append(error.retry_seconds or 0.0)
    assert waits[0] == 0.1
    assert waits[199] == pytest.approx(2.0, abs=0.02)
    assert waits[-1] == 5.0
    error = refusal(outlook, "b", clock.now + 29.9)
    assert error is not None
    assert error.retry_seconds == 0.1
    clock.now += 5.0
    error = refusal(outlook, "a", clock.now + 24.9)
    assert error is not None
    assert error.retry_seconds == pytest.approx(0.145, abs=0.01)


def test_refusals_of_workers_count_in_a_crowd_too(clock: Clock) -> None:
    outlook = outlook_on(busy(30.0))
    by_workers = [outlook.retry_seconds("a", 0.05) for _ in range(200)]
    assert by_workers[0] == 0.05
    assert by_workers[-1] == pytest.approx(2.0, abs=0.02)
    assert outlook.retry_seconds("a", 7.5) == 7.5  # as long as the work itself would have to wait
    assert outlook.retry_seconds("b", 0.05) == 0.05
    error = refusal(outlook, "a", clock.now + 29.9)
    assert error is not None
    assert error.retry_seconds == pytest.approx(2.0, abs=0.05)
