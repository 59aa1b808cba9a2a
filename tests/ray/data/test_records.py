from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertstream.ray.data.places import plan_of, works_of_plan
from bertstream.ray.data.records import (
    Decision,
    OutputExists,
    Record,
    decide,
    key_of,
    read_record,
    undone,
    write_record,
)

OLD, NEW, MADE = {"bytes": 1}, {"bytes": 2}, {"bytes": 9}
DONE = Record("job", OLD, MADE, 5)


@pytest.mark.parametrize(
    ("record", "before", "output", "decision"),
    [
        (None, OLD, None, "make"),
        (DONE, OLD, MADE, "done"),
        (DONE, NEW, MADE, "make"),  # the input was changed
        (DONE, OLD, None, "make"),  # the output was removed
        (Record("job", OLD), OLD, None, "make"),  # killed before the output was there
        (Record("job", OLD), OLD, MADE, "make"),  # killed before that was recorded
        (None, OLD, MADE, "refuse"),  # a file of somebody else's
        (DONE, OLD, NEW, "refuse"),  # somebody has changed it
        (Record("other", OLD, MADE), OLD, MADE, "refuse"),
    ],
)
def test_a_file_is_made_unless_it_is_done(
    record: Record | None, before: dict[str, Any], output: dict[str, Any] | None, decision: Decision
) -> None:
    assert decide(record, "job", before, output, overwrite=False) == decision
    allowed = "make" if decision == "refuse" else decision
    assert decide(record, "job", before, output, overwrite=True) == allowed


def test_a_record_is_read_as_it_was_written_and_a_broken_one_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "folder" / "a.json")
    assert read_record(path) is None
    write_record(path, DONE)
    assert read_record(path) == DONE
    Path(path).write_text('{"other": 1}')
    assert read_record(path) is None
    Path(path).write_text("{")
    assert read_record(path) is None


def test_a_file_in_the_way_is_named_before_anything_is_done(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("one\n")
    (tmp_path / "out").mkdir()
    works = works_of_plan(plan_of([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "out"))
    (tmp_path / "out" / "b.parquet").write_bytes(b"mine")
    with pytest.raises(OutputExists, match=r"b\.parquet was not made by this job: choose another folder"):
        undone(works, "job", overwrite=False)
    assert undone(works, "job", overwrite=True) == (works, [])


def test_jobs_that_ask_for_the_same_have_one_key() -> None:
    assert key_of({"b": 1, "a": (1,)}) == key_of({"a": [1], "b": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
