from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from bertstream.server.supervisor import draining
from bertstream.server.supervisor.draining import DrainLog
from tests.support.waiting import stopped_clock, until


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """Return a function that gives the messages logged so far, each with its number of calls."""
    caplog.set_level(logging.INFO, "bertstream.server.supervisor.draining")

    def read() -> list[tuple[str, int | None]]:
        extras = [vars(record) for record in caplog.records]
        return [(extra["message"], extra.get("calls", extra.get("cut_off"))) for extra in extras]

    return read


def told(drain: DrainLog, **calls: int) -> None:
    for name, number in calls.items():
        drain.reported(name, number)


async def test_the_calls_of_all_frontends_are_told_together(said: Any) -> None:
    drain = DrainLog(2, 30.0)
    drain.signalled("SIGTERM")
    told(drain, one=2)
    await asyncio.sleep(0.02)
    assert said() == [("SIGTERM: draining", None)]
    told(drain, other=1)
    await asyncio.sleep(0.02)
    assert said()[1:] == [("calls are left", 3)]
    told(drain, one=0, other=0)
    drain.ended()
    assert said()[2:] == [("stopped", 0)]


async def test_they_are_told_again_until_the_time_is_over(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "REPORT_SECONDS", 0.01)
    clock = stopped_clock(monkeypatch, draining)
    drain = DrainLog(1, 0.5)
    drain.signalled("SIGTERM")
    told(drain, one=2)
    await until(lambda: len(said()) == 3)
    told(drain, one=1)
    await until(lambda: said()[-1] == ("calls are left", 1))
    clock.now += 0.5
    await until(lambda: said()[-1][0] != "calls are left")
    drain.ended()
    assert said()[1:3] == [("calls are left", 2), ("calls are left", 2)]
    assert said()[-2:] == [("the time is over: calls are cut off", 1), ("stopped", 1)]


async def test_a_frontend_that_tells_nothing_is_not_waited_for(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "REPORT_SECONDS", 0.05)
    drain = DrainLog(2, 0.2)
    drain.signalled("SIGTERM")
    told(drain, one=0)
    await asyncio.sleep(0.15)
    drain.ended()
    assert said()[1:] == [("calls are left", 0), ("stopped", 0)]


async def test_what_frontends_told_of_drains_of_their_own_does_not_count(said: Any) -> None:
    drain = DrainLog(1, 30.0)
    told(drain, one=7)
    drain.ended()
    assert said() == []
    drain.signalled("SIGTERM")
    await asyncio.sleep(0.02)
    told(drain, one=1)
    await asyncio.sleep(0.02)
    drain.signalled("SIGINT")
    assert said()[1:] == [("calls are left", 1), ("SIGINT again: calls are not waited for", 1)]
    drain.ended()


async def test_a_notice_comes_before_the_calls_are_counted(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "REPORT_SECONDS", 0.01)
    clock = stopped_clock(monkeypatch, draining)
    drain = DrainLog(1, 50.0, notice_seconds=100.0)
    drain.signalled("SIGTERM")
    await asyncio.sleep(0.05)
    assert said() == [("SIGTERM: draining", None)]
    told(drain, one=2)
    await until(lambda: len(said()) > 1)
    assert said()[1] == ("calls are left", 2)
    clock.now += 149.0
    await asyncio.sleep(0.04)
    assert ("the time is over: calls are cut off", 2) not in said()
    clock.now += 1.0
    await until(lambda: said()[-1] == ("the time is over: calls are cut off", 2))
    drain.ended()
