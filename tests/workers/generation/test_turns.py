"""Test the estimate of when a new generation would begin."""

from __future__ import annotations

import pytest

from bertstream.workers.generation.forecast import Need
from bertstream.workers.generation.turns import Crowd, TurnPace, turns_until

SHORT = Need(5, 1, 5)


def begins(need: Need = SHORT, ahead: Crowd | None = None, *under_way: Need, rows: int = 1000, many: int = 4) -> float:
    return turns_until(need, ahead or Crowd(), under_way, rows, many)


def test_where_there_is_room_it_begins_at_once() -> None:
    assert begins() == 0
    assert begins(SHORT, None, Need(5, 1, 100), Need(5, 1, 100)) == 0


def test_where_all_sequences_are_taken_when_the_first_has_ended() -> None:
    assert begins(SHORT, None, *(Need(5, 1, turns) for turns in (30, 10, 20, 40))) == 10
    assert begins(Need(5, 2, 5), None, *(Need(5, 1, turns) for turns in (30, 10, 20, 40))) == 20


def test_where_rows_are_short_when_there_are_enough() -> None:
    assert begins(Need(50, 1, 50), None, Need(0, 1, 60), rows=100) == 60
    assert begins(Need(10, 1, 20), None, Need(0, 1, 60), rows=100) == 0


def test_those_ahead_take_the_places_of_those_who_end_and_then_of_each_other() -> None:
    under_way = [Need(5, 1, turns) for turns in (10, 20, 30, 40)]
    found = [begins(SHORT, Crowd(waiting, 50, 45), *under_way) for waiting in range(10)]
    assert found == [10, 20, 30, 40, 55, 65, 75, 85, 100, 110]


def test_those_ahead_take_free_places_first() -> None:
    assert [begins(SHORT, Crowd(waiting, 50, 45), Need(5, 1, 10)) for waiting in range(6)] == [0, 0, 0, 10, 45, 45]


def test_as_many_places_are_free_as_there_are_rows_for() -> None:
    assert [begins(SHORT, Crowd(waiting, 50, 45), rows=110) for waiting in range(5)] == [0, 0, 45, 45, 90]


def test_how_long_turns_take_is_measured() -> None:
    pace = TurnPace()
    assert pace.seconds == 0
    pace.turned(0.5)
    assert pace.seconds == 0.5
    for _ in range(20):
        pace.turned(1.0)
    assert pace.seconds == pytest.approx(1.0, abs=0.02)


def test_how_many_of_their_turns_are_used_is_measured() -> None:
    pace = TurnPace()
    for _ in range(200):
        pace.ended(10, 40)
    assert pace.share == pytest.approx(0.25, abs=0.01)
