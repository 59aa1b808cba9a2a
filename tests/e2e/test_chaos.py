"""Faults under load, in short; `make chaos` provokes all of them, for longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import UNDER_LOAD, Fault
from tests.chaos.provoking import provoked
from tests.chaos.scene import Scene, scene

# What no other test provokes.
QUICK = (
    *("only worker killed", "frontend without descriptors", "clock jumps", "connections come and go"),
    "hostile: all at once",
)


@pytest.fixture(scope="module")
def running(compile_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(compile_cache, processes=1, folder=tmp_path_factory.mktemp("chaos")) as started:
        yield started
        assert started.load.stop() == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", [each for each in UNDER_LOAD if each.name in QUICK], ids=lambda fault: fault.name)
def test_all_calls_are_answered_rightly(running: Scene, fault: Fault) -> None:
    counted = provoked(fault, running, seconds=0.5)
    assert (counted.broken, counted.wrong, counted.lost, counted.complaints) == ("", 0, 0, [])
    assert counted.calls == counted.right > 0
