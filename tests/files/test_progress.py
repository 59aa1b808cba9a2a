"""The bar on a terminal, and the lines elsewhere."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from bertstream.files.progress import FileProgress, Shown, progress_text, seconds_left
from tests.files.conftest import run, texts_of, write_input


def progress(**changes: object) -> FileProgress:
    values = {"rows": 12345, "failed": 0, "resumed": 45, "share": 0.25, "seconds": 10.0, "seconds_left": 30.5}
    return FileProgress(**{**values, "finished": False, **changes})  # type: ignore[arg-type]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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
