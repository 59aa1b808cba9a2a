"""Attempts at one piece of work, without any worker."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bertstream.server.core.callers import Caller
from bertstream.server.core.dispatch import attempts as attempts_module
from bertstream.server.core.dispatch import outlook as outlook_module
from bertstream.server.core.dispatch.attempts import MAX_DEATHS, Attempts
from bertstream.server.core.dispatch.link import WorkerLost
from bertstream.server.core.dispatch.outlook import Outlook, Wait
from bertstream.server.core.errors import RequestError
from bertstream.server.core.measures import ModelMeasures
from bertstream.workers.contract import Failure
from tests.support.waiting import stopped_clock

NOW = 1000.0  # what the clock of refusals says, which are remembered for a quarter of a second
RUNNING, WAITING = WorkerLost(running=True), WorkerLost(running=False)
FULL = Failure(1, "queue_full", "no")
LATE = Failure(1, "overloaded", "no time", retry_seconds=7.5)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_clock(monkeypatch, outlook_module)


def busy() -> list[Wait]:
    """Return what two workers say that have work for seconds."""
    waits = [Wait(), Wait()]
    for wait in waits:
        wait.say(5.0)
    return waits


class Link:
    """A link to a worker that is alive, or not."""

    def __init__(self, alive: bool = True) -> None:
        self.alive = alive


class Fleet:
    """A fleet whose least loaded link is a new one each time, and which may have others."""

    worker_wait_seconds = 10.0

    def __init__(self, *others: Link) -> None:
        self.given: list[Link] = []
        self.others = others
        self.outlook, self.generation_outlook = Outlook(busy), Outlook(busy)
        self.measures = ModelMeasures()

    def another(self, asked: Link) -> Link | None:
        return next((link for link in self.others if link is not asked), None)

    async def least_loaded(self, give_up: float, deadline: float) -> Link:
        self.given.append(Link())
        return self.given[-1]


def make(**options: Any) -> Attempts:
    fleet: Any = Fleet()
    return Attempts(fleet, math.inf, **{"waits": False} | options)


def answering(*answers: Any) -> Callable[[Any], Awaitable[Any]]:
    """Return an attempt that returns or raises these answers, one after another."""
    left = list(answers)

    async def attempt(link: Any) -> Any:
        if isinstance(answer := left.pop(0), Exception):
            raise answer
        return answer

    return attempt


async def test_what_only_waited_is_sent_again_and_counts_nothing() -> None:
    attempts = make()
    assert await attempts.run(answering(*[WAITING] * 9, "done")) == "done"
    assert attempts.deaths == 0


async def test_deaths_are_counted_over_all_that_is_run() -> None:
    attempts = make()
    assert await attempts.run(answering(RUNNING, "one")) == "one"
    assert await attempts.run(answering(WAITING, RUNNING, "two")) == "two"
    with pytest.raises(RequestError, match=f"POISONOUS_INPUT: {MAX_DEATHS} workers died"):
        await attempts.run(answering(RUNNING))


async def test_deaths_before_count_too() -> None:
    with pytest.raises(RequestError, match="POISONOUS_INPUT"):
        await make(deaths=MAX_DEATHS - 1).run(answering(RUNNING))


async def test_the_first_death_may_be_enough() -> None:
    attempts = make(most=1)
    with pytest.raises(RequestError, match="POISONOUS_INPUT"):
        await attempts.run(answering(WAITING, RUNNING))
    assert attempts.deaths == 1


async def test_a_full_queue_is_waited_for_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "QUEUE_FULL_SECONDS", 0.001)
    assert await make(waits=True).run(answering(FULL, FULL, "done")) == "done"
    with pytest.raises(RequestError, match="OVERLOADED"):
        await make().run(answering(FULL))


@pytest.mark.parametrize("alive", [True, False])
async def test_the_first_worker_is_taken_while_it_lives(alive: bool) -> None:
    first, seen = Link(alive), list[Any]()

    async def attempt(link: Any) -> str:
        seen.append(link)
        return "done"

    wanted: Any = first
    await make().run(attempt, wanted)
    assert (seen[0] is first) == alive


@pytest.mark.parametrize("generates", [False, True])
async def test_a_worker_without_time_refuses_and_that_is_remembered(generates: bool) -> None:
    fleet: Any = Fleet()
    deadline = NOW + 60
    attempts = Attempts(fleet, deadline, waits=True, caller=Caller("a"), generates=generates)
    with pytest.raises(RequestError, match="OVERLOADED: no time") as raised:
        await attempts.run(answering(LATE))
    assert raised.value.retry_seconds == 7.5
    mine, other = fleet.outlook, fleet.generation_outlook
    if generates:
        mine, other = other, mine
    other.check("a", deadline)
    with pytest.raises(RequestError, match="OVERLOADED"):
        mine.check("a", deadline)


async def test_of_a_crowd_that_workers_refuse_each_is_told_to_wait_for_longer() -> None:
    fleet: Any = Fleet()
    told = []
    for _ in range(300):
        attempts = Attempts(fleet, NOW + 60, waits=False, caller=Caller("a"))
        with pytest.raises(RequestError) as raised:
            await attempts.run(answering(Failure(1, "overloaded", "no time", retry_seconds=0.05)))
        told.append(raised.value.retry_seconds or 0.0)
        assert raised.value.message == f"no time: try again in {told[-1]:.2f} s"
    assert told[0] == 0.05
    assert told[-1] > 1.0


async def test_where_one_worker_has_no_time_one_other_is_asked() -> None:
    others = Link(), Link()
    fleet: Any = Fleet(*others)
    seen: list[Any] = []

    def seeing(*answers: Any) -> Callable[[Any], Awaitable[Any]]:
        attempt = answering(*answers)

        async def see(link: Any) -> Any:
            seen.append(link)
            return await attempt(link)

        return see

    deadline = NOW + 60
    attempts = Attempts(fleet, deadline, waits=False, caller=Caller("a"))
    assert await attempts.run(seeing(LATE, "done")) == "done"
    assert seen == [fleet.given[0], others[0]]
    fleet.outlook.check("a", deadline)  # the one refusal is not remembered
    with pytest.raises(RequestError, match="OVERLOADED"):
        await attempts.run(seeing(LATE, LATE))
    assert seen[2:] == [fleet.given[1], others[0]]
    with pytest.raises(RequestError, match="OVERLOADED"):
        fleet.outlook.check("a", deadline)


async def test_where_the_other_is_lost_the_least_loaded_is_asked_again() -> None:
    fleet: Any = Fleet(Link())
    attempts = Attempts(fleet, NOW + 60, waits=False)
    assert await attempts.run(answering(LATE, WAITING, "done")) == "done"
    assert len(fleet.given) == 2
