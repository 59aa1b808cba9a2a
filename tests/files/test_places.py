"""Where files lie: outputs that would be inputs, folders that cannot be read, and what is neither file nor folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bertstream.files.plan import planned
from bertstream.files.storage import LOCAL
from tests.files.conftest import lines_of, run, write_input


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_input(tmp_path / "c" / "a.jsonl", ["a"])
    write_input(tmp_path / "c" / "lang=de" / "b.jsonl", ["b"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("./c/a.jsonl", "c/a.jsonl"),
        ("c/a.jsonl", "c/../c/a.jsonl"),
        ("symbolic.jsonl", "c/a.jsonl"),
        ("c/a.jsonl", "hard.jsonl"),
        ("linked/a.jsonl", "c/a.jsonl"),
        ("c", "./c/"),
        ("./c", "c/"),
        ("c", "linked/"),
        ("c", "c/vectors/"),
        (".", "vectors/"),
        ("c/*.jsonl", "./c/"),
        ("./c/**/*.jsonl", "c/"),
        ("v.parquet.failed.jsonl", "v.parquet"),
        ("./v.parquet.failed.jsonl", "v.parquet"),
    ],
)
def test_an_output_that_is_read_is_refused_however_it_is_spelled(folder: Path, source: str, output: str) -> None:
    (folder / "symbolic.jsonl").symlink_to("c/a.jsonl")
    (folder / "linked").symlink_to("c")
    (folder / "hard.jsonl").hardlink_to("c/a.jsonl")
    write_input(folder / "v.parquet.failed.jsonl", ["a"])
    with pytest.raises(ValueError, match="give another name or folder than those that are read"):
        planned([source], output)


@pytest.mark.parametrize(
    ("source", "output"),
    [("c/a.jsonl", "."), ("c", "."), ("c", "c/_vectors/"), ("c", "c.jsonl/"), ("c/a.jsonl", "c/"), ("c/l*/*", "v/")],
)
def test_an_output_beside_the_input_is_not(source: str, output: str) -> None:
    assert planned([source], output).in_folder


def test_objects_that_are_spelled_otherwise() -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe("/spelled/a.jsonl", b'{"text": "a"}\n')
    for source, output in (
        ("memory://spelled/a.jsonl", "memory:///spelled/a.jsonl"),
        ("memory://spelled/a.jsonl", "memory://spelled/./a.jsonl"),
        ("memory://spelled", "memory://spelled/x/../"),
    ):
        with pytest.raises(ValueError, match="give another name or folder"):
            planned([source], output)


def test_the_list_of_failed_rows_is_no_output(folder: Path) -> None:
    write_input(folder / "c" / "failed.txt", ["a"])
    with pytest.raises(ValueError, match=r"the list of rows that fail and c/failed\.txt would both become"):
        planned(["c/failed.txt"], "./", "jsonl")


def test_each_output_has_its_own_list_of_failed_rows() -> None:
    write_input(Path("in.txt"), ["a", "b7"])
    write_input(Path("good.txt"), ["a"])
    for output in ("v.jsonl", "v.npy"):
        assert run(["in.txt"], output).failed_file == f"{output}.failed.jsonl"
    assert run(["good.txt"], "v.npy", overwrite=True).failed_file is None
    assert [path for path in sorted(map(str, Path().iterdir())) if "failed" in path] == ["v.jsonl.failed.jsonl"]
    assert [row["row"] for row in lines_of(Path("v.jsonl.failed.jsonl"))] == [1]


@pytest.mark.parametrize("source", ["c", "c/**/*.jsonl", "c/*/*.jsonl", "c/*/b.jsonl"])
def test_a_folder_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    scandir = os.scandir

    def denied(path: Any = ".") -> Any:
        if "lang=de" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(PermissionError, match=r"Permission denied: 'c/lang=de/?'"):
        planned([source], "v/")
    assert not (folder / "v").exists()


def test_a_folder_that_is_not_there_has_no_files() -> None:
    assert LOCAL.find("nowhere") == []


@pytest.mark.parametrize("source", ["c", "c/*", "c/**/*.txt"])
def test_pipes_in_a_folder_are_left_out(folder: Path, source: str) -> None:
    write_input(folder / "c" / "b.txt", ["a"])
    os.mkfifo("c/x.txt")
    Path("c/link.txt").symlink_to("x.txt")
    assert "x.txt" not in str(planned([source], "v/").pairs)
    assert "link.txt" not in str(planned([source], "v/").pairs)


def test_links_to_files_are_read_and_those_to_nothing_are_told(folder: Path) -> None:
    (folder / "c" / "link.txt").symlink_to(write_input(folder / "b.txt", ["a"]))
    assert run(["c"], "v/", format="jsonl").rows == 3
    (folder / "c" / "broken.txt").symlink_to("nothing.txt")
    with pytest.raises(FileNotFoundError, match=r"broken\.txt"):
        run(["c"], "w/", format="jsonl")


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("", "the output has no name"),
        ("-", "and not standard output"),
        ("/dev/null", "and not a pipe or a device"),
        ("plain", "plain: there is a file of that name, and no folder"),
        ("plain/", "plain/: there is a file of that name, and no folder"),
    ],
)
def test_outputs_that_are_neither_file_nor_folder(folder: Path, output: str, told: str) -> None:
    (folder / "plain").touch()
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match=told):
        run(["c/a.jsonl"], output)
    assert sorted(folder.rglob("*")) == before


def test_no_sources() -> None:
    with pytest.raises(ValueError, match="no files to read: give a file, a folder or a pattern"):
        planned([], "v/")
