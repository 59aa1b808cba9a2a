from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from bertstream.workers.process.garbage import settle


class Cycle:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_there_is_not_looked_at_any_more() -> None:
    settle()
    assert gc.get_freeze_count() > len(gc.get_objects())


def test_what_was_needed_before_is_collected_by_the_next_call() -> None:
    needed: Cycle | None = Cycle()
    gone = weakref.ref(needed)
    settle()
    needed = None
    gc.collect()
    assert gone() is not None
    settle()
    assert gone() is None
