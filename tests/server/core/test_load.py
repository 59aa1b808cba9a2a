from __future__ import annotations

import math
import time

import pytest

from bertstream.server.core.dispatch import outlook as outlook_module
from bertstream.server.core.dispatch.outlook import Wait
from bertstream.server.core.load import RATE_SECONDS, Rate, application_load, fullness, queue_seconds
from tests.support.waiting import stopped_clock


def waiting(seconds: float) -> Wait:
    wait = Wait()
    wait.say(seconds)
    return wait


def test_a_call_waits_for_the_worker_that_is_free_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = stopped_clock(monkeypatch, outlook_module).now
    assert queue_seconds([waiting(3.0), waiting(1.0)], now) == 1.0
    assert queue_seconds([waiting(3.0)], now + 5.0) == 0.0
    assert queue_seconds([], now) == math.inf


@pytest.mark.parametrize(
    ("waited", "most", "held", "full"),
    [
        (0.0, 30.0, 0.0, 0.0),
        (15.0, 30.0, 0.1, 0.5),
        (3.0, 30.0, 0.75, 0.75),
        (60.0, 30.0, 0.0, 2.0),
        (5.0, 0.0, 0.25, 0.25),
        (math.inf, 30.0, 0.0, 1.0),
    ],
)
def test_a_queue_is_full_where_refusals_begin(waited: float, most: float, held: float, full: float) -> None:
    assert fullness(waited, most, held) == full


def test_the_whole_is_the_fullest_part_and_never_below_the_processor() -> None:
    assert application_load(0.5, (0.1, 0.75)) == 0.75
    assert application_load(0.5, (0.01,)) == 0.5  # not 0.01, which would look idler than no queue at all
    assert application_load(0.0, ()) == 0.0


def test_a_rate_follows_what_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    rate = Rate()
    for _ in range(2000):
        now[0] += 0.01
        rate.add()
    assert rate.per_second == pytest.approx(100.0, rel=0.05)
    now[0] += 10 * RATE_SECONDS
    assert rate.per_second < 0.1
