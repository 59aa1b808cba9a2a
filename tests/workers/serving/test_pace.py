from __future__ import annotations

import random

import pytest

from bertstream.workers.serving.pace import AtHand, Pace, short_batch


def measured(*batches: tuple[int, float], pace: Pace | None = None) -> Pace:
    pace = pace or Pace()
    for tokens, seconds in batches:
        pace.add(tokens, seconds)
    return pace


def test_before_anything_was_measured_batches_take_no_time() -> None:
    pace = Pace()
    assert not pace.measured
    assert (pace.seconds(1000), pace.careful_seconds(1000)) == (0, 0)


def test_what_a_batch_costs_and_what_a_token_does_are_told_apart() -> None:
    dice = random.Random(1)
    sizes = [dice.choice((10, 40, 300, 1000)) for _ in range(200)]
    pace = measured(*((size, 0.002 + 0.0002 * size) for size in sizes))
    assert pace.seconds(500) == pytest.approx(0.102, rel=0.02)
    assert pace.seconds(1) == pytest.approx(0.0022, rel=0.2)
    assert pace.efficient_tokens == pytest.approx(30, rel=0.2)


def test_where_all_were_small_a_large_batch_is_not_taken_to_be_dear() -> None:
    """On a GPU it costs little more; elsewhere, the first of them shows what it costs."""
    pace = measured(*((20, 0.002) for _ in range(50)))
    assert pace.seconds(10_000) == pytest.approx(0.002)
    assert measured((10_000, 0.5), pace=pace).seconds(10_000) == pytest.approx(0.5, rel=0.1)


def test_full_batches_soon_outweigh_small_ones() -> None:
    pace = measured(*((10, 0.005) for _ in range(1000)))
    assert measured(*((1000, 0.2) for _ in range(3)), pace=pace).seconds(1000) == pytest.approx(0.2, rel=0.1)


def test_a_change_of_speed_is_found_within_seconds_in_both_directions() -> None:
    pace = measured(*((size, size * 0.0002) for size in (100, 1000, 500) * 20))
    slow = measured(*((1000, 0.6) for _ in range(10)), pace=pace)  # six seconds
    assert slow.seconds(1000) == pytest.approx(0.6, rel=0.2)
    again = measured(*((1000, 0.2) for _ in range(30)), pace=slow)
    assert again.seconds(1000) == pytest.approx(0.2, rel=0.2)


def test_one_batch_that_was_held_up_is_forgiven() -> None:
    pace = measured(*((1000, 0.2) for _ in range(30)), (1000, 1.0), *((1000, 0.2) for _ in range(20)))
    assert pace.seconds(1000) == pytest.approx(0.2, rel=0.25)


def test_how_careful_to_be_is_measured_too() -> None:
    dice = random.Random(2)
    steady = measured(*((1000, 0.2) for _ in range(50)))
    assert steady.careful_seconds(1000) == pytest.approx(0.2, rel=0.01)
    noisy = [(1000, 0.2 * dice.uniform(0.8, 1.2)) for _ in range(200)]
    pace = measured(*noisy)
    assert 0.22 < pace.careful_seconds(1000) < 0.3
    assert sum(seconds > pace.careful_seconds(1000) for _, seconds in noisy) <= 2


def test_no_time_at_all_is_no_reason_to_fail() -> None:
    assert measured((10, 0.0)).seconds(10) < 1e-5


def test_a_batch_takes_from_its_work_s_arrival_or_from_the_end_of_the_one_before() -> None:
    hand = AtHand()
    hand.begin(100, arrival=10.0)
    assert (len(hand), hand.left_seconds(10.5)) == (1, 0)
    hand.done(12.0)
    assert hand.pace.seconds(100) == pytest.approx(2)
    hand.begin(100, arrival=5.0)  # it waited, while the one before was computed
    hand.done(14.0)
    assert hand.pace.seconds(100) == pytest.approx(2)


def test_what_is_left_of_the_batches_at_hand() -> None:
    hand = AtHand()
    hand.begin(100, arrival=10.0)
    hand.done(12.0)
    assert hand.left_seconds(12.5) == 0
    hand.begin(100, arrival=11.0)
    hand.begin(100, arrival=12.1)
    assert hand.left_seconds(12.5) == pytest.approx(1.5 + 2)
    assert hand.left_seconds(15.0) == pytest.approx(2)  # it takes longer than was thought
    hand.done(15.0)
    assert hand.left_seconds(15.0) == pytest.approx(hand.pace.seconds(100))


@pytest.mark.parametrize(
    ("fixed", "each", "tokens"),
    [
        (0.002, 0.0002, 490),  # a tenth of a second
        (0.030, 0.002, 285),  # longer, since each batch has all weights of a large model read: 0.03 of 0.6 s
        (0.002, 1.2e-6, 1024),  # a GPU
        (0.050, 0.0, 1024),
        (0.0, 0.5, 1),
    ],
)
def test_a_batch_is_short_unless_it_would_be_dear(fixed: float, each: float, tokens: int) -> None:
    small, large = ((count, fixed + each * count) for count in (8, 128))
    assert short_batch(small, large, 1024) == pytest.approx(tokens, abs=1)


def test_of_measurements_that_contradict_each_other_a_batch_stays_long() -> None:
    assert short_batch((8, 0.05), (128, 0.04), 1024) == 1024
    assert short_batch((8, 0.001), (128, 0.032), 1024) == 387  # no batch costs less than nothing
