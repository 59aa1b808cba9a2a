"""The bar on a terminal, and the lines elsewhere."""

from __future__ import annotations

import io
import os
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from bertstream.files.asked import Asked
from bertstream.files.job import Job
from bertstream.files.operations import OPERATIONS
from bertstream.files.plan import planned
from bertstream.files.progress import FileProgress, Shown, progress_text, seconds_left
from bertstream.files.rows import inputs_for
from tests.files.conftest import answer, run, texts_of, write_input


def progress(**changes: object) -> FileProgress:
    values = {"rows": 12345, "failed": 0, "resumed": 45, "share": 0.25, "seconds": 10.0, "seconds_left": 30.5}
    return FileProgress(**{**values, "finished": False, **changes})  # type: ignore[arg-type]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Narrow(Terminal):
    """A terminal that says how many columns it has."""

    columns = 60

    def fileno(self) -> int:
        return 2


@pytest.fixture(autouse=True)
def able_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((Narrow.columns, 24)))


def test_texts() -> None:
    rest = "12,345 rows · 1,230 rows/s · 0:10"
    assert progress_text(progress(), bar=True) == f"[######..................] 25 % · {rest} · 0:30 left"
    assert progress_text(progress(failed=3), bar=False) == f"25 % · {rest} · 0:30 left · 3 failed"
    assert progress_text(progress(share=0.0, seconds_left=None), bar=True) == rest
    assert progress_text(progress(seconds_left=7265.0), bar=False).endswith("2:01:05 left")


def test_time_left_is_that_of_what_is_left() -> None:
    assert seconds_left(10, 0.0, 0.25) == 30
    assert seconds_left(10, 0.5, 0.75) == 10  # the half that an earlier run has done took no time now
    assert seconds_left(10, 0.5, 0.5) is None
    assert seconds_left(10, 0.5, 1.0) is None


def test_a_terminal_has_one_line() -> None:
    file, now = Terminal(), [0.0]
    shown = Shown(True, file, lambda: now[0])
    for now[0] in (0.1, 0.2, 0.3, 0.5):
        shown.update(progress)
    assert file.getvalue().count("\r\x1b[K") == 2
    shown.note("a note")
    shown.update(lambda: progress(finished=True), finished=True)
    shown.end()
    first, note, last, end = file.getvalue().split("\n")
    assert (note, end) == ("a note", "")
    assert first.startswith("\r\x1b[K[")
    assert "left" not in last


def test_elsewhere_there_is_a_line_now_and_then() -> None:
    file, now = io.StringIO(), [0.0]
    shown = Shown(True, file, lambda: now[0])
    for now[0] in (5.0, 10.0, 15.0, 20.0):
        shown.update(progress)
    shown.end()
    assert file.getvalue().count("\n") == 2
    assert "[" not in file.getvalue()


def test_a_function_is_called(tmp_path: Path) -> None:
    seen: list[FileProgress] = []
    now = iter(range(1000))
    source = write_input(tmp_path / "t.txt", texts_of(300))
    run([source], tmp_path / "v.npy", progress=seen.append, time_of=lambda: float(next(now)))
    assert [each.rows for each in seen] == sorted(each.rows for each in seen)
    assert (seen[-1].rows, seen[-1].share, seen[-1].finished) == (300, 1.0, True)
    assert all(0 < each.share <= 1 for each in seen)
    assert not any(each.finished for each in seen[:-1])


def test_the_share_counts_all_files_by_their_bytes(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for number in range(2):
        write_input(tmp_path / "in" / f"{number}.parquet", texts_of(200))
    seen: list[FileProgress] = []
    now = iter(range(10000))
    run([tmp_path / "in"], tmp_path / "out/", format="jsonl", progress=seen.append, time_of=lambda: float(next(now)))
    shares = [each.share for each in seen]
    assert shares == sorted(shares)
    assert any(0.4 < share < 0.6 for share in shares)


@pytest.mark.parametrize("columns", [100, 60, 20])
def test_a_line_fits_its_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(Narrow, "columns", columns)
    file = Narrow()
    shown = Shown(True, file, lambda: 0.0)
    shown.update(progress, finished=True)
    drawn = file.getvalue().removeprefix("\r\x1b[K")
    assert len(drawn) < columns
    assert drawn.startswith("[###" if columns == 100 else "25 % · 12,345 rows")


def test_a_dumb_terminal_has_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    file = Narrow()
    shown = Shown(True, file, lambda: 0.0)
    shown.update(progress, finished=True)
    shown.end()
    assert file.getvalue() == progress_text(progress(), bar=False) + "\n"


def test_without_standard_error_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    shown = Shown(True)
    shown.update(progress, finished=True)
    shown.note("a note")
    shown.end()


@pytest.mark.parametrize("name", ["t.txt", "t.csv", "t.jsonl.gz", "t.parquet", "t.arrow"])
def test_the_share_is_that_of_rows_with_an_answer(tmp_path: Path, name: str) -> None:
    """A stream reads far ahead of its answers."""
    if name.endswith(("parquet", "arrow")):
        pytest.importorskip("pyarrow")
    source, count = write_input(tmp_path / name, ["some words"] * 3000), 3000
    asked = Asked(OPERATIONS["encode"], inputs_for(OPERATIONS["encode"]))
    with Job(planned([str(source)], str(tmp_path / "v.npy")), asked) as job:
        items: list[Any] = list(chain.from_iterable(job.item_lists()))
        assert job.progress().share == 0.0
        for start in range(0, count, 500):
            job.take([(number, answer(item)) for number, item in items[start : start + 500]])
            seen = job.progress()
            assert seen.rows == start + 500
            if not name.endswith("gz"):  # of which, as of CSV, some kilobytes are read at a time
                assert seen.share == pytest.approx(seen.rows / count, abs=0.2)
        assert seen.share == 1.0
        job.finish()


def test_a_later_run_begins_with_the_share_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertstream.files.parts.PART_ROWS", 100)
    source = write_input(tmp_path / "t.txt", [f"{number:04}" for number in range(1000)])

    def stopping(item: str) -> Any:
        if item == "0599":
            raise ConnectionError
        return answer(item)

    with pytest.raises(ConnectionError):
        run([source], tmp_path / "v.npy", stopping)
    seen: list[FileProgress] = []
    now = iter(range(10000))
    report = run([source], tmp_path / "v.npy", progress=seen.append, time_of=lambda: float(next(now)))
    assert report.resumed >= 500
    assert seen[0].share == pytest.approx(seen[0].rows / 1000, abs=0.05)
