"""A run that is killed at any moment goes on where it stopped: no row is lost, and none is there twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from bertstream.files.progress import FileProgress
from bertstream.files.storage import LocalStorage
from tests.files.conftest import answer, bad, lines_of, run, texts_of, vector, write_input
from tests.support.imports import ROOT

COUNT = 90
FEW = 45


class Killed(BaseException):
    """Stands for the end of the process."""


class Mortal(LocalStorage):
    """Files of a process that ends before, or right after, its n-th change of a file."""

    def __init__(self, changes: int) -> None:
        self.left = changes
        self.is_dead = False

    def _change(self) -> None:
        self.left -= 1
        if self.left < 0 or self.is_dead:
            self.is_dead = True
            raise Killed

    @contextlib.contextmanager
    def replace(self, path: str, half_in: str = "") -> Iterator[IO[bytes]]:
        self._change()
        with super().replace(path, half_in) as file:
            yield file
            self._change()
        self._change()

    def remove(self, path: str) -> None:
        self._change()
        super().remove(path)
        self._change()


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertstream.files.parts.PART_ROWS", 20)


def run_mortal(monkeypatch: pytest.MonkeyPatch, changes: int, *arguments: Any, **options: Any) -> bool:
    """Run, and return whether the run came to its end before it was killed."""
    monkeypatch.setattr("bertstream.files.storage.LOCAL", Mortal(changes))
    try:
        run(*arguments, **options)
    except Killed:
        return False
    return True


@pytest.mark.parametrize("output", ["v.jsonl", "v.npy", "out/"])
def test_a_kill_at_any_change_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)  # which takes most of the time, and matters when the power fails
    texts, source = texts_of(FEW), tmp_path / "in"
    options = {"format": "jsonl"} if output == "out/" else {}
    write_input(source / "a.txt", texts)
    write_input(source / "x=1" / "b.txt", texts[:25])
    sources = [source if output == "out/" else source / "a.txt"]
    for kills in range(1000):
        folder = tmp_path / str(kills)
        folder.mkdir()
        over = run_mortal(monkeypatch, kills, sources, folder / output, **options)
        if not over:
            with contextlib.suppress(FileExistsError):  # killed when all was done but the removal of the journal
                assert run_mortal(monkeypatch, 1 << 30, sources, folder / output, **options)
        check(folder, output, texts)
        if over:
            break
    assert kills > 30


def check(folder: Path, output: str, texts: list[str]) -> None:
    """Assert that the outputs are complete."""
    expected = [vector(text).tolist() if not bad(text) else None for text in texts]
    failed = [number for number, text in enumerate(texts) if bad(text)]
    if output != "out/":
        assert vectors(folder / output) == expected
        assert [row["row"] for row in lines_of(folder / f"{output}.failed.jsonl")] == failed
        return
    assert vectors(folder / "out" / "a.jsonl") == expected
    assert vectors(folder / "out" / "x=1" / "b.jsonl") == expected[:25]
    told = [(Path(row["file"]).name, row["row"]) for row in lines_of(folder / "out.failed.jsonl")]
    assert told == [("a.txt", row) for row in failed] + [("b.txt", row) for row in failed if row < 25]


def vectors(path: Path) -> list[Any]:
    if path.suffix == ".npy":
        return [None if np.isnan(row).any() else row.tolist() for row in np.load(path)]
    return [row["vector"] for row in lines_of(path)]


def test_what_is_done_is_not_asked_again(tmp_path: Path) -> None:
    texts = texts_of(COUNT)
    source = write_input(tmp_path / "t.txt", texts)
    asked, stops = list[Any](), True

    def give(item: Any) -> Any:
        if stops and len(asked) == 50:
            raise ConnectionError("gone")
        asked.append(item)
        return answer(item)

    with pytest.raises(ConnectionError):
        run([source], tmp_path / "v.npy", give)
    first = len(asked)
    assert not (tmp_path / "v.npy").exists()
    stops = False
    report = run([source], tmp_path / "v.npy", give)
    # A batch of 16 was under way when it ended; all rows that were answered before are kept.
    assert report.resumed == first // 16 * 16
    assert asked[first:] == texts[report.resumed :]
    assert vectors(tmp_path / "v.npy") == [None if bad(text) else vector(text).tolist() for text in texts]


def stop_halfway(source: Path, output: Path, **options: Any) -> None:
    def give(item: Any) -> Any:
        if item == texts_of(COUNT)[71]:
            raise ConnectionError("gone")
        return answer(item)

    with pytest.raises(ConnectionError):
        run([source], output, give, **options)


def test_another_run_does_not_go_on(tmp_path: Path) -> None:
    source = write_input(tmp_path / "t.txt", texts_of(COUNT))
    stop_halfway(source, tmp_path / "v.jsonl")
    with pytest.raises(FileExistsError, match=r"another max_length: repeat .*--overwrite"):
        run([source], tmp_path / "v.jsonl", options={"max_length": 5})
    report = run([source], tmp_path / "v.jsonl", options={"max_length": 5}, overwrite=True)
    assert (report.rows, report.resumed) == (COUNT, 0)


def test_types_that_do_not_fit_are_told_by_a_later_run_too(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    source = tmp_path / "t.jsonl"
    values = [*map(str, range(60)), '"a text"']
    source.write_text("".join(f'{{"text": "{place}", "n": {value}}}\n' for place, value in enumerate(values)))

    def give(item: Any) -> Any:
        if item == "45":
            raise ConnectionError
        return answer(item)

    with pytest.raises(ConnectionError):
        run([source], tmp_path / "v.parquet", give, keep="all")
    with pytest.raises(ValueError, match="different types"):
        run([source], tmp_path / "v.parquet", keep="all")


def test_nothing_is_left_where_nothing_is_written(tmp_path: Path) -> None:
    source = write_input(tmp_path / "t.txt", ["a"])

    def give(item: Any) -> Any:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        run([source], tmp_path / "v.jsonl", give)
    assert list(tmp_path.iterdir()) == [source]
    run([source], tmp_path / "v.jsonl", options={"max_length": 3})
    with pytest.raises(FileExistsError):
        run([source], tmp_path / "v.jsonl")
    assert sorted(tmp_path.iterdir()) == [source, tmp_path / "v.jsonl"]


def test_an_interrupt_keeps_what_is_answered(tmp_path: Path) -> None:
    source, now = write_input(tmp_path / "t.txt", texts_of(COUNT)), iter(range(10_000))

    def progress(told: FileProgress) -> None:
        if told.rows > 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([source], tmp_path / "v.jsonl", progress=progress, time_of=lambda: float(next(now)))
    assert not (tmp_path / "v.jsonl").exists()
    report = run([source], tmp_path / "v.jsonl")
    assert (report.rows, report.resumed) == (COUNT, 64)


def test_an_input_that_changes_is_done_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = write_input(tmp_path / "t.txt", texts_of(COUNT))
    stop_halfway(source, tmp_path / "v.jsonl")
    write_input(source, ["a", "b"])
    report = run([source], tmp_path / "v.jsonl", progress=True)
    assert (report.rows, report.resumed) == (2, 0)
    assert vectors(tmp_path / "v.jsonl") == [vector("a").tolist(), vector("b").tolist()]
    assert "t.txt has changed since, and is done again" in capfd.readouterr().err


def test_outputs_are_not_overwritten(tmp_path: Path) -> None:
    source = write_input(tmp_path / "t.txt", ["a7"])
    run([source], tmp_path / "v.jsonl")
    with pytest.raises(FileExistsError, match=r"v\.jsonl is there already: .*--overwrite"):
        run([source], tmp_path / "v.jsonl")
    (tmp_path / "v.jsonl").unlink()
    with pytest.raises(FileExistsError, match=r"v\.jsonl\.failed\.jsonl is there already"):
        run([source], tmp_path / "v.jsonl")
    write_input(source, ["b"])
    run([source], tmp_path / "v.jsonl", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.txt", "v.jsonl"]


def test_an_old_output_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text("old")
    source = write_input(tmp_path / "t.txt", texts_of(COUNT))
    stop_halfway(source, tmp_path / "v.jsonl", overwrite=True)
    assert (tmp_path / "v.jsonl").read_text() == "old"
    assert run([source], tmp_path / "v.jsonl").resumed > 0
    assert len(vectors(tmp_path / "v.jsonl")) == COUNT


def test_two_runs_at_once(tmp_path: Path) -> None:
    source = write_input(tmp_path / "t.txt", ["a"])
    tried: list[str] = []

    def give(item: Any) -> Any:
        with pytest.raises(FileExistsError, match="another process is writing it"):
            run([source], tmp_path / "v.jsonl")
        tried.append(item)
        return answer(item)

    run([source], tmp_path / "v.jsonl", give)
    assert tried == ["a"]


SLOW = """
import sys, time
from tests.files.conftest import answer, run
import bertstream.files.parts as parts
parts.PART_ROWS = 40
def give(item):
    time.sleep(float(sys.argv[3]))
    if item.endswith("399") and float(sys.argv[3]):
        time.sleep(600)  # as a run that is to be killed must not come to its end before
    return answer(item)
run([sys.argv[1]], sys.argv[2], give, keep="all")
"""


def test_killed_processes(tmp_path: Path) -> None:
    """Kill real processes at random moments, and let the fourth come to the end."""
    texts, source, output = texts_of(400), tmp_path / "t.jsonl", tmp_path / "v.jsonl"
    write_input(source, texts)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command, chance = [sys.executable, "-c", SLOW, str(source), str(output)], random.Random(7)
    for _ in range(3):
        with subprocess.Popen([*command, "0.006"], env=environment) as child:
            time.sleep(0.25 + 0.35 * chance.random())
            assert child.poll() is None
            child.send_signal(signal.SIGKILL)
    subprocess.run([*command, "0"], env=environment, check=True)
    rows = lines_of(output)
    assert [row["id"] for row in rows] == list(range(400))
    assert [row["vector"] for row in rows] == [None if bad(text) else vector(text).tolist() for text in texts]
    assert [row["row"] for row in lines_of(tmp_path / "v.jsonl.failed.jsonl")] == [
        number for number, text in enumerate(texts) if bad(text)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.jsonl", "v.jsonl", "v.jsonl.failed.jsonl"]
