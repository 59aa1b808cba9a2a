"""What a worker does before it loads anything."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from bertstream.workers.process.worker import stay_on


def cores_after(cores: list[int]) -> set[int]:
    """Of a thread that stays on these, and starts another one."""
    found: list[set[int]] = []

    def start() -> None:
        stay_on(cores)
        inner = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        inner.start()
        inner.join()

    outer = threading.Thread(target=start)
    outer.start()
    outer.join()
    return found[0]


def test_threads_stay_on_the_cores_of_the_one_that_started_them() -> None:
    usable = os.sched_getaffinity(0)
    one = min(usable)
    assert cores_after([one]) == {one}
    assert cores_after([]) == usable
    assert os.sched_getaffinity(0) == usable


def test_cores_that_are_gone_are_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert cores_after([1023]) == os.sched_getaffinity(0)
    assert "cannot stay on its cores" in caplog.text
