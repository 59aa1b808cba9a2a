"""Test that the work that fails is found in its batch, and that errors that are not the model's get through."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertstream.workers.engine import failures
from bertstream.workers.engine.failures import FailedComputation, attempt, halve


def test_what_succeeds_is_given_as_it_is() -> None:
    assert attempt(lambda: None, "a batch of 2", alone=False) is None
    assert attempt(lambda: [1], "a batch of 2", alone=False) == [1]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("broken"), "internal"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
    ],
)
def test_why_it_failed(error: Exception, reason: str) -> None:
    assert attempt(lambda: _raise(error), "a batch of 2", alone=False) == FailedComputation(reason)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: an illegal memory access"), KeyboardInterrupt()])
def test_what_nothing_here_survives_is_raised(error: BaseException) -> None:
    with pytest.raises(type(error)):
        attempt(lambda: _raise(error), "a batch of 2", alone=False)


def test_what_stands_alone_is_logged_with_all_of_it(caplog: pytest.LogCaptureFixture) -> None:
    for alone in (False, True):
        attempt(lambda: _raise(ValueError("broken")), "it", alone=alone)
    several, single = caplog.records
    assert (several.levelno, several.message) == (
        logging.WARNING,
        "it failed and is computed again in halves: broken",
    )
    assert (single.levelno, single.message) == (logging.ERROR, "it failed (internal): broken")
    assert not several.exc_info
    assert single.exc_info


def test_nothing_of_a_failure_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the halves of what ran out of memory would run out of it too."""
    monkeypatch.setattr(failures.log, "disabled", True)  # pytest keeps what is logged
    made: list[weakref.ref[torch.Tensor]] = []

    def compute() -> None:
        states = torch.zeros(10)
        made.append(weakref.ref(states))
        raise RuntimeError("broken")

    failed = attempt(compute, "it", alone=True)
    assert isinstance(failed, FailedComputation)
    assert made[0]() is None


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_those_that_fail_are_found_and_no_others(bad: list[bool]) -> None:
    failed: list[int] = []
    done: list[int] = []

    def compute(group: Sequence[int]) -> None:
        if any(bad[each] for each in group):
            halve(group, compute, failed.append)
        else:
            done.extend(group)

    compute(range(len(bad)))
    assert failed == [each for each, broken in enumerate(bad) if broken]
    assert done == [each for each, broken in enumerate(bad) if not broken]


def test_memory_is_given_back_before_a_half_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[object] = []
    monkeypatch.setattr(failures, "give_memory_back", lambda: steps.append("given back"))
    halve("abc", steps.append, steps.append)
    halve("a", steps.append, lambda each: steps.append(f"{each} failed"))
    assert steps == ["given back", "a", "bc", "given back", "a failed"]


def _raise(error: BaseException) -> None:
    raise error
