"""A run waits until the machine is quiet, and refuses to begin where it does not become so."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import quiet
from benchmarks.quiet import NotQuiet


def test_a_quiet_machine_needs_no_wait() -> None:
    told: list[str] = []
    assert quiet.wait(told.append, lambda: 0.02) == 0.02
    assert told == []


def test_it_waits_until_others_have_ended() -> None:
    told: list[str] = []
    shares = iter([0.9, 0.6, 0.05])
    assert quiet.wait(told.append, lambda: next(shares)) == 0.05
    assert told == ["others use 90% of the processors: waiting for 5 minutes at most"]


def test_it_refuses_in_the_end_and_says_what_to_do() -> None:
    with pytest.raises(NotQuiet, match=r"others use 80% of the processors.*measure all the same with --busy"):
        quiet.wait(lambda line: None, lambda: 0.8, limit=0.0)


def test_the_share_is_of_the_time_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(quiet, "STAT", stat)
    stat.write_text("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3\n")

    def sleep(seconds: float) -> None:
        assert seconds == 3.0
        stat.write_text("cpu  120 5 105 850 10 5 3 2 0 0\ncpu0 1 2 3\n")

    assert quiet.busy_share(3.0, sleep) == pytest.approx(0.4)
