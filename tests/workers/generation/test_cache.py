from __future__ import annotations

import random

import numpy as np
import pytest

from bertstream.workers.generation.cache import CacheRows
from bertstream.workers.ragged import Ints


def test_low_rows_go_first_and_what_was_freed_last_goes_next() -> None:
    cache = CacheRows(10)
    first, second = cache.allocate(3), cache.allocate(2)
    assert [first.tolist(), second.tolist()] == [[0, 1, 2], [3, 4]]
    cache.release(first)
    assert cache.allocate(4).tolist() == [0, 1, 2, 5]


def test_a_shared_row_is_free_when_the_last_holder_has_released_it() -> None:
    cache = CacheRows(4)
    rows = cache.allocate(3)
    cache.share(rows[:2])
    cache.release(rows)
    assert cache.used == 2
    assert cache.allocate(2).tolist() == [2, 3]
    cache.release(rows[:2])
    assert cache.free == 2


def test_no_more_than_there_are() -> None:
    cache = CacheRows(4)
    cache.allocate(3)
    with pytest.raises(MemoryError, match="2 rows of the cache are wanted and 1 are free"):
        cache.allocate(2)
    assert cache.free == 1
    assert cache.allocate(0).size == 0


def test_nobody_is_given_what_another_holds() -> None:
    dice, cache = random.Random(1), CacheRows(60)
    held: list[Ints] = []
    for _ in range(500):
        if held and (dice.random() < 0.45 or cache.free < 10):
            cache.release(held.pop(dice.randrange(len(held))))
        elif held and dice.random() < 0.3:
            shared = held[dice.randrange(len(held))]
            cache.share(shared)
            held.append(shared)
        else:
            new = cache.allocate(dice.randrange(1, 10))
            assert not np.isin(new, np.concatenate([new[:0], *held])).any()
            held.append(new)
        assert cache.used == len(set(np.concatenate([np.empty(0), *held]).tolist()))
    for rows in held:
        cache.release(rows)
    assert cache.free == 60
