"""Calls are refused before any work, by what workers said last."""

from __future__ import annotations

import math

import pytest

from bertstream.server.core.dispatch import outlook as outlook_module
from bertstream.server.core.dispatch.outlook import Outlook, Wait
from bertstream.server.core.errors import Code, RequestError


class Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(outlook_module, "time", made)
    return made


def refusal(outlook: Outlook, caller: str, deadline: float, *waits: Wait) -> RequestError | None:
    try:
        outlook.check(caller, deadline, waits)
    except RequestError as error:
        return error
    return None


def test_a_worker_that_has_said_nothing_keeps_nobody_out(clock: Clock) -> None:
    assert refusal(Outlook(), "a", clock.now + 0.001, Wait()) is None
    assert refusal(Outlook(), "a", clock.now + 0.001) is None


def test_what_no_worker_could_answer_in_time_is_refused(clock: Clock) -> None:
    busy, less = Wait(), Wait()
    busy.say(5.0)
    less.say(3.0)
    assert refusal(Outlook(), "a", clock.now + 3.5, busy, less) is None
    error = refusal(Outlook(), "a", clock.now + 2.0, busy, less)
    assert error is not None
    assert (error.code, error.reason, error.retry_seconds) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED", 1.0)
    assert refusal(Outlook(), "a", math.inf, busy, less) is None


def test_what_was_said_grows_old(clock: Clock) -> None:
    wait = Wait()
    wait.say(3.0)
    assert refusal(Outlook(), "a", clock.now + 1.0, wait) is not None
    clock.now += 2.5
    assert refusal(Outlook(), "a", clock.now + 1.0, wait) is None
    clock.now += 100
    assert wait.left(clock.now) == 0.0


def test_a_caller_that_a_worker_has_refused_is_refused_at_once_for_a_moment(clock: Clock) -> None:
    outlook = Outlook()
    outlook.refused("a", clock.now + 2.0, retry_seconds=5.0)
    error = refusal(outlook, "a", clock.now + 2.0)
    assert error is not None
    assert error.retry_seconds == 0.25
    assert refusal(outlook, "a", clock.now + 2.1) is None  # it has more time
    assert refusal(outlook, "b", clock.now + 2.0) is None
    clock.now += 0.26
    assert refusal(outlook, "a", clock.now + 2.0) is None


def test_a_moment_is_short_beside_what_the_call_might_have_waited(clock: Clock) -> None:
    outlook = Outlook()
    outlook.refused("a", clock.now + 0.08, retry_seconds=5.0)
    clock.now += 0.011
    assert refusal(outlook, "a", clock.now + 0.01) is None
    outlook.refused("a", clock.now + 8.0, retry_seconds=0.05)
    clock.now += 0.06
    assert refusal(outlook, "a", clock.now + 1.0) is None


def test_so_many_callers_are_remembered_and_no_more(clock: Clock) -> None:
    outlook = Outlook()
    for number in range(5000):
        outlook.refused(f"caller-{number}", clock.now + 2.0, retry_seconds=1.0)
    assert refusal(outlook, "caller-0", clock.now + 1.0) is not None
    assert refusal(outlook, "caller-4999", clock.now + 1.0) is None
    clock.now += 1.0
    outlook.refused("caller-4999", clock.now + 2.0, retry_seconds=1.0)
    assert refusal(outlook, "caller-4999", clock.now + 1.0) is not None
