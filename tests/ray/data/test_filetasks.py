"""Files of files, with an engine that has no model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ray.data.fake_engine import FakeEngine, vector_of

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (bertstream[ray])")
import pyarrow.parquet as pq  # noqa: E402 - what needs pyarrow comes after it was asked for

from bertstream.ray.data import filetasks  # noqa: E402
from bertstream.ray.data.carried import FileOutcome, outcome_of, outcomes_table, work_row, works_of  # noqa: E402
from bertstream.ray.data.corpora import write_failures  # noqa: E402
from bertstream.ray.data.filetasks import FileTask  # noqa: E402
from bertstream.ray.data.jobs import JobFailed, Progress, gathered  # noqa: E402
from bertstream.ray.data.places import FileWork, plan_of, works_of_plan  # noqa: E402
from bertstream.ray.data.records import Record, undone  # noqa: E402
from bertstream.ray.data.tasks import EngineFailed, row_task  # noqa: E402

TASK = FileTask(row_task("encode"), ("id",), "job")
ROWS = 23


class Corpus:
    """Two files in hive folders, and what becomes of them."""

    def __init__(self, folder: Path) -> None:
        self.source, self.output = folder / "corpus", folder / "vectors"
        self.write("lang=de", [f"satz {number}" for number in range(ROWS)])
        self.write("lang=en", ["one", "bad", None, "four"])

    def write(self, name: str, texts: list[str | None]) -> None:
        (self.source / name).mkdir(parents=True, exist_ok=True)
        table = pa.table({"id": range(len(texts)), "text": pa.array(texts, pa.string())})
        pq.write_table(table, self.source / name / "part-0.parquet")

    def works(self) -> list[FileWork]:
        return works_of_plan(plan_of(self.source, self.output))

    def left(self, key: str = "job") -> list[str]:
        return [work.pair.name for work in undone(self.works(), key, overwrite=False)[0]]

    def table(self, name: str) -> Any:
        return pq.ParquetFile(self.output / name / "part-0.parquet").read()


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make parts of a few rows."""
    from bertstream.files.sources import tables

    monkeypatch.setattr(tables, "CHUNK_ROWS", 2)
    monkeypatch.setattr(filetasks, "PART_ROWS", 4)


def killed_after(requests: int) -> Callable[[], None]:
    """Return a function that raises, as if the process was killed, after it was called so often."""
    left = [requests]

    def before() -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1

    return before


def test_files_keep_their_folders_their_rows_and_their_order(corpus: Corpus, small_parts: None) -> None:
    records = [TASK.make(FakeEngine(), work) for work in corpus.works()]
    assert [(record.rows, record.failed) for record in records] == [(ROWS, 0), (4, 2)]
    table = corpus.table("lang=de")
    assert table.column_names == ["id", "vector"]
    assert table["id"].to_pylist() == list(range(ROWS))
    expected = np.stack([vector_of(f"satz {number}") for number in range(ROWS)])
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), expected)
    missing = [bool(np.isnan(row).all()) for row in np.array(corpus.table("lang=en")["vector"].to_pylist())]
    assert missing == [False, True, True, False]


def test_a_folder_is_read_as_one_table_whatever_lies_beside_the_data(corpus: Corpus) -> None:
    for work in corpus.works():
        TASK.make(FakeEngine(), work)
    dataset = pytest.importorskip("pyarrow.dataset")
    table = dataset.dataset(corpus.output, partitioning="hive").to_table()
    assert sorted(set(table["lang"].to_pylist())) == ["de", "en"]
    assert table.num_rows == ROWS + 4


def test_rows_that_fail_are_listed_with_their_file(corpus: Corpus) -> None:
    for work in corpus.works():
        TASK.make(FakeEngine(), work)
    path = write_failures(plan_of(corpus.source, corpus.output), corpus.works())
    assert path == f"{corpus.output}.failed.jsonl"
    listed = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert [(each["file"], each["row"], each["reason"]) for each in listed] == [
        ("lang=en/part-0.parquet", 1, "POISONOUS_INPUT"),
        ("lang=en/part-0.parquet", 2, "MISSING_VALUE"),
    ]
    corpus.write("lang=en", ["now all is well"])
    for work in corpus.works():
        TASK.make(FakeEngine(), work)
    assert write_failures(plan_of(corpus.source, corpus.output), corpus.works()) is None
    assert not Path(path).exists()


def test_what_is_done_is_not_asked_for_again(corpus: Corpus) -> None:
    assert corpus.left() == ["lang=de/part-0.parquet", "lang=en/part-0.parquet"]
    for work in corpus.works():
        TASK.make(FakeEngine(), work)
    assert corpus.left() == []
    again = FakeEngine()
    assert TASK.make(again, corpus.works()[0]).rows == ROWS  # an actor that was believed to be lost had made it
    assert again.client.texts == []
    corpus.write("lang=de", ["ein satz"])
    assert corpus.left() == ["lang=de/part-0.parquet"]
    TASK.make(again, corpus.works()[0])
    assert again.client.texts == ["ein satz"]
    assert corpus.table("lang=de").num_rows == 1


@pytest.mark.parametrize("requests", range(6))
def test_a_file_goes_on_where_it_was_killed(corpus: Corpus, small_parts: None, requests: int) -> None:
    work, killed = corpus.works()[0], FakeEngine(killed_after(requests))
    with pytest.raises(KeyboardInterrupt):
        TASK.make(killed, work)
    assert not Path(work.pair.output).exists()
    assert work.pair.name in corpus.left()
    second = FakeEngine()
    assert TASK.make(second, work).rows == ROWS
    parts_written = max(0, requests - filetasks.PARTS_UNDER_WAY + 1)
    assert len(second.client.texts) == ROWS - 4 * parts_written
    assert corpus.table("lang=de")["id"].to_pylist() == list(range(ROWS))
    assert list(Path(work.pair.output).parent.iterdir()) == [Path(work.pair.output)]
    assert not Path(work.unfinished).exists()


def test_a_file_that_ends_one_actor_after_the_other_is_given_up_for_this_run(corpus: Corpus, small_parts: None) -> None:
    work = corpus.works()[0]
    for requests in (3, *[0] * filetasks.MOST_TRIES):
        with pytest.raises(KeyboardInterrupt):
            TASK.make(FakeEngine(killed_after(requests)), work)
    outcome = TASK.outcome(FakeEngine(), work)
    assert not outcome.fatal
    assert outcome.error == f"{work.pair.source}: given up at row 4, where 5 actors have died"
    assert TASK.make(FakeEngine(), work).rows == ROWS  # in the next one it is tried again


def test_parts_of_an_input_that_was_changed_are_forgotten(corpus: Corpus, small_parts: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        TASK.make(FakeEngine(killed_after(5)), corpus.works()[0])
    corpus.write("lang=de", ["neu"] * 9)
    engine = FakeEngine()
    assert TASK.make(engine, corpus.works()[0]).rows == 9
    assert len(engine.client.texts) == 9


def test_a_file_that_cannot_be_read_keeps_no_other_from_being_made(corpus: Corpus) -> None:
    (corpus.source / "lang=en" / "part-0.parquet").write_bytes(b"no Parquet")
    pq.write_table(pa.table({"title": ["x"]}), corpus.source / "lang=de" / "part-1.parquet")
    outcomes = [TASK.outcome(FakeEngine(), work) for work in corpus.works()]
    report = gathered(outcomes, [], 3, None)
    assert (report.files, report.rows, report.ok) == (1, ROWS, False)
    (no_column, no_parquet) = (report.failed_files[path] for path in sorted(report.failed_files))
    assert "no column 'text'" in no_column
    assert "part-0.parquet" in no_parquet


def test_a_file_without_rows_becomes_one_with_the_same_columns(corpus: Corpus) -> None:
    corpus.write("lang=de", [])
    record = TASK.make(FakeEngine(), corpus.works()[0])
    assert record.rows == 0
    assert corpus.table("lang=de").column_names == ["id", "vector"]


def test_a_job_ends_where_no_engine_starts(corpus: Corpus) -> None:
    def broken() -> None:
        raise EngineFailed("there is no checkpoint at x")

    outcomes = (TASK.outcome(FakeEngine(broken), work) for work in corpus.works())
    with pytest.raises(JobFailed, match="there is no checkpoint at x"):
        gathered(outcomes, [], 2, None)


def test_progress_is_told_as_files_are_done() -> None:
    told: list[Progress] = []
    times = iter([0.0, 2.0, 4.0, 5.0])
    outcomes = [FileOutcome("a", Record("k", {}, {}, 10)), FileOutcome("b", error="broken")]
    report = gathered(outcomes, [Record("k", {}, {}, 5, 1)], 3, told.append, lambda: next(times))
    assert list(map(str, told)) == ["2 of 3 files, 10 rows, 5 rows/s", "2 of 3 files, 10 rows, 2 rows/s"]
    assert (report.files, report.skipped, report.rows, report.failed_rows) == (2, 1, 15, 1)
    assert report.failed_files == {"b": "broken"}
    assert report.seconds == 5.0


def test_work_and_outcomes_travel_as_rows(corpus: Corpus) -> None:
    works = corpus.works()
    assert works_of(pa.Table.from_pylist([work_row(work) for work in works])) == works
    outcomes = [FileOutcome("a", Record("k", {"bytes": 1}, {"bytes": 2}, 3)), FileOutcome("b", None, "why", True)]
    assert [outcome_of(row) for row in outcomes_table(outcomes).to_pylist()] == outcomes
