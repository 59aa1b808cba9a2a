from __future__ import annotations

import random

import pytest

from bertstream.workers.generation.forecast import Forecast, Need


def plain(needs: list[tuple[Need, int]], need: Need, start: int, rows: int, sequences: int) -> bool:
    """Return whether it can begin in turn `start`, counted by hand."""
    everyone = [*needs, (need, start)]
    alone = True
    for turn in range(start, start + need.turns):
        there = [(each, turn - first + 1) for each, first in everyone if first <= turn < first + each.turns]
        alone = alone and len(there) == 1
        held = sum(each.rows + each.answers * nth for each, nth in there)
        if held > rows or sum(each.answers for each, _ in there) > sequences:
            return alone and all(first >= start + need.turns or first + each.turns <= start for each, first in needs)
    return True


def some_need(dice: random.Random) -> Need:
    return Need(dice.randrange(1, 20), dice.choice((1, 1, 1, 2, 5)), dice.randrange(1, 12))


def test_rows_grow_by_one_for_each_answer_and_turn() -> None:
    assert Need(7, 2, 3).held.tolist() == [9, 11, 13]
    assert Need(7, 2, 3).after(2) == Need(11, 2, 1)
    assert Need(7, 2, 3).after(2).held.tolist() == Need(7, 2, 3).held.tolist()[2:]


@pytest.mark.parametrize("seed", range(20))
def test_it_says_what_counting_by_hand_says(seed: int) -> None:
    dice = random.Random(seed)
    under_way = [(some_need(dice), 0) for _ in range(dice.randrange(5))]
    later = [(some_need(dice), dice.randrange(1, 15)) for _ in range(dice.randrange(3))]
    forecast = Forecast(60, 6, [need for need, _ in under_way])
    for need, start in later:
        forecast.add(need, start)
    for asked in (some_need(dice) for _ in range(20)):
        starts = range(0, 30, 3)
        expected = [plain([*under_way, *later], asked, start, 60, 6) for start in starts]
        assert forecast.fits_at(asked, starts).tolist() == expected
        assert forecast.fits(asked) == expected[0]


def test_those_under_way_may_be_added_one_by_one() -> None:
    needs = [Need(3, 1, 5), Need(4, 2, 9), Need(1, 1, 2)]
    at_once, added = Forecast(40, 6, needs), Forecast(40, 6)
    for need in needs:
        added.add(need)
    for need in (Need(rows, answers, turns) for rows in range(1, 30, 4) for answers in (1, 3) for turns in (1, 4, 12)):
        assert at_once.fits(need) == added.fits(need)


def test_it_is_full_when_the_next_turn_has_no_sequence_or_row() -> None:
    assert not Forecast(40, 2).full
    assert not Forecast(40, 2, [Need(1, 1, 9)]).full
    assert Forecast(40, 2, [Need(1, 2, 9)]).full
    assert Forecast(40, 2, [Need(39, 1, 1)]).full


def test_where_nobody_is_there_is_room_for_more_than_there_may_be() -> None:
    assert Forecast(40, 2).fits(Need(10, 5, 9))
    forecast = Forecast(40, 2, [Need(1, 1, 3)])
    assert forecast.fits_at(Need(10, 5, 9), [0, 2, 3]).tolist() == [False, False, True]
