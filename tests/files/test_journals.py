"""Journals of runs that did not come to their end: names that are theirs too, earlier versions, and a full disk."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from bertstream.files.journal import Journal, write_json
from bertstream.files.storage import LOCAL
from tests.files.conftest import answer, lines_of, run, texts_of, vector, write_input

COUNT = 60


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertstream.files.parts.PART_ROWS", 20)
    monkeypatch.chdir(tmp_path)


def stopping(item: Any) -> Any:
    """Fail as a connection does, in the last file."""
    if item == "stop":
        raise ConnectionError("gone")
    return answer(item)


def stop(source: str, output: str, **options: Any) -> ConnectionError:
    with pytest.raises(ConnectionError) as stopped:
        run([source], output, stopping, **options)
    return stopped.value


def test_folders_with_the_names_of_the_journals_own_files() -> None:
    names = ("lock", "job.json", "files", "done.json", "000000.json")
    for name in names:
        write_input(Path("d", name, "a.txt"), ["a", "b"])
    write_input(Path("d", "z.txt"), [*texts_of(COUNT), "stop"])
    stop("d", "v/", format="jsonl")
    assert run(["d"], "v/", format="jsonl").resumed == (2 * len(names) + COUNT) // 16 * 16
    for name in names:
        assert [row["vector"] for row in lines_of(Path("v", name, "a.jsonl"))] == [
            vector("a").tolist(),
            vector("b").tolist(),
        ]
    assert not Path("v", ".unfinished").exists()


def test_a_run_that_an_earlier_version_has_begun_goes_on() -> None:
    """It had the files' journals beside `job.json`, which said nothing of itself."""
    write_input(Path("in.txt"), [*texts_of(COUNT), "stop"])
    stop("in.txt", "v.jsonl")
    work = Path(".v.jsonl.unfinished")
    job = json.loads((work / "job.json").read_text())
    assert job.pop("journal") == 2
    write_json(LOCAL, f"{work}/job.json", job)
    (work / "files" / "v.jsonl").rename(work / "v.jsonl")
    (work / "files").rmdir()
    assert run(["in.txt"], "v.jsonl").resumed == COUNT // 16 * 16
    assert len(lines_of(Path("v.jsonl"))) == COUNT + 1
    assert not work.exists()


def test_a_run_that_a_later_version_has_begun_is_refused() -> None:
    write_input(Path("in.txt"), [*texts_of(COUNT), "stop"])
    stop("in.txt", "v.jsonl")
    job = Path(".v.jsonl.unfinished", "job.json")
    job.write_text(json.dumps({**json.loads(job.read_text()), "journal": 3}))
    with pytest.raises(FileExistsError, match="an unfinished run of it had another journal"):
        run(["in.txt"], "v.jsonl")


def test_a_run_that_begins_anew_keeps_its_lock() -> None:
    with LOCAL.lock("./w"):
        Journal(LOCAL, "./w").begin({})
        assert sorted(path.name for path in Path("w").iterdir()) == ["job.json", "lock"]


def test_an_output_that_was_removed_since_is_written_again(capfd: pytest.CaptureFixture[str]) -> None:
    write_input(Path("d", "a.txt"), ["a", "b7"])
    write_input(Path("d", "z.txt"), [*texts_of(COUNT), "stop"])
    stop("d", "v/", format="jsonl")
    Path("v", "a.jsonl").unlink()
    report = run(["d"], "v/", format="jsonl", progress=True)
    assert "v/a.jsonl was removed since, and is done again" in capfd.readouterr().err
    assert (report.rows, report.resumed) == (COUNT + 3, (COUNT + 2) // 16 * 16 - 2)
    assert [row["vector"] is None for row in lines_of(Path("v", "a.jsonl"))] == [False, True]
    assert len([row for row in lines_of(Path("v.failed.jsonl")) if "a.txt" in row["file"]]) == 1


def test_a_full_disk_names_the_file_and_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    write_input(Path("in.txt"), texts_of(COUNT))
    written: list[int] = []

    def full(file: int) -> None:
        written.append(file)
        if len(written) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*v\.jsonl.*'") as stopped:
        run(["in.txt"], "v.jsonl")
    assert stopped.value.__notes__ == ["v.jsonl is not finished: repeat the same command or call, and it goes on"]


def test_what_cannot_go_on_does_not_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    write_input(Path("in.txt"), ["stop"])
    assert not hasattr(stop("in.txt", "v.jsonl"), "__notes__")


@pytest.mark.parametrize("source", ["./c", "c/", "./c/", ".//c", "./c/*/*", "."])
def test_outputs_have_the_names_below_a_folder_however_it_is_spelled(source: str) -> None:
    write_input(Path("c", "x", "a.txt"), ["a"])
    (output,) = run([source], "v.d/" if source != "." else "../v/", format="jsonl").outputs
    names = {".": "../v/c/x/a.jsonl", "./c/*/*": "v.d/x/a.jsonl"}
    assert output == names.get(source, "v.d/x/a.jsonl")
