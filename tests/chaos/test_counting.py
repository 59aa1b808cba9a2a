"""What rows say of calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.chaos import calls
from tests.chaos.counting import LOST, RIGHT, WRONG, Record, Row, row, table, unanswered


def test_what_ended_within_is_counted() -> None:
    records = [
        Record("encode", 8.0, 9.9, RIGHT),
        Record("encode", 9.0, 10.0, RIGHT),
        Record("encode", 10.0, 15.0, RIGHT, ((12.0, "UNAVAILABLE"), (13.0, "UNAVAILABLE"))),
        Record("classify", 11.0, 12.0, WRONG, (), "another answer"),
        Record("classify", 11.0, 12.5, LOST, ((12.2, "RESOURCE_EXHAUSTED"),), "INTERNAL"),
        Record("encode", 11.0, 20.0, RIGHT),
    ]
    counted = row("killed", began=10.0, whole=12.1, ended=20.0, records=records)
    assert (counted.calls, counted.right, counted.retried, counted.wrong, counted.lost) == (4, 2, 2, 1, 1)
    assert counted.failed == {"UNAVAILABLE": 2, "RESOURCE_EXHAUSTED": 1}
    assert (counted.seconds, counted.normal_seconds) == (10.0, 3.0)
    assert counted.complaints == ["classify: another answer", "classify: INTERNAL"]
    assert not counted.good


@pytest.mark.parametrize(
    ("changed", "good"), [({}, True), ({"wrong": 1}, False), ({"lost": 1}, False), ({"broken": "it grew"}, False)]
)
def test_what_is_good(changed: dict[str, int], good: bool) -> None:
    assert Row("fault", 1.0, **changed).good == good  # type: ignore[arg-type]


def test_a_kind_is_answered_by_a_call_that_began_after_it() -> None:
    records = [Record("a", 1.0, 5.0, RIGHT), Record("b", 4.0, 5.0, RIGHT), Record("c", 4.0, 5.0, WRONG)]
    assert unanswered(["a", "b", "c"], records, since=3.0) == ["a", "c"]


def test_a_table_has_a_line_a_fault() -> None:
    lines = table([Row("worker killed", 1.25, calls=7, right=7), Row("none", 10, broken="it grew")]).splitlines()
    assert [line.split()[0] for line in lines] == ["fault", "worker", "none"]
    assert lines[1].split()[2:] == ["1.2", "7", "7", "0", "0", "0", "0.0"]
    assert lines[2].endswith("NOT AS PROMISED: it grew")


def test_answers_are_compared_by_shape_type_and_value() -> None:
    floats, integers = np.array([1.0, 2.0], np.float32), np.array([3, 4])
    assert calls.right([floats + 5e-6, integers], [floats, integers])
    others: list[NDArray[Any]] = [
        floats[:1],
        floats.astype(np.float64),
        floats + 5e-5,
        np.array([np.nan, 2.0], np.float32),
    ]
    assert not any(calls.right([other], [floats]) for other in others)
    assert not calls.right([integers + 1], [integers])
    assert not calls.right([integers], [integers, integers])
