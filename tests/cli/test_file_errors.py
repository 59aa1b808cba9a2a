"""What commands over files say of mistyped names, of files that cannot be read, and of how to go on."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from bertstream.cli import main
from tests.client.fake_server import FakeServer

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("a\n")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "output", "told"),
    [
        (["corpus/"], "v.npy", "corpus/: no such file"),
        (["./data/nope"], "v.jsonl", "./data/nope: no such file"),
        (["my data/"], "v.npy", "my data/: no such file"),
        (["data/part-*"], "v.npy", "data/part-*: no files to read"),
        (["x.txt", "nope"], "v.npy", "nope: no such file"),
        (["a text", "x.txt"], "v.npz", "a text: no such file"),
        (["corpus"], "cvx", "corpus: no such file"),
        (["nope.jsonl.gz"], "v.jsonl", "nope.jsonl.gz: no such file"),
    ],
)
def test_a_mistyped_input_is_no_text(fails: Any, given: list[str], output: str, told: str) -> None:
    assert fails("encode", *given, "-o", output) == (1, f"bertstream: error: {told}\n")
    assert sorted(map(str, Path().iterdir())) == ["x.txt"]


@pytest.mark.parametrize("command", ["encode", "classify"])
@pytest.mark.parametrize(
    ("output", "told"),
    [("", "the output has no name"), ("-", "leave -o out to print texts"), ("/dev/null", "/dev/null: an output")],
)
def test_outputs_that_are_neither_file_nor_folder(fails: Any, command: str, output: str, told: str) -> None:
    code, error = fails(command, "x.txt", "-o", output)
    assert (code, told in error) == (2, True), error
    assert sorted(map(str, Path().iterdir())) == ["x.txt"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.parquet", b"", "a.parquet: "),
        ("a.parquet", b"PAR1 and nonsense", "a.parquet: "),
        ("a.arrow", b"ARROW1 and nonsense", "a.arrow: "),
        ("a.jsonl.gz", b"nonsense", "a.jsonl.gz: "),
    ],
)
def test_a_file_that_cannot_be_read_is_no_wrong_usage(fails: Any, name: str, content: bytes, told: str) -> None:
    pytest.importorskip("pyarrow")
    Path(name).write_bytes(content)
    code, error = fails("encode", name, "-o", "v.jsonl")
    assert (code, told in error) == (1, True), error


def test_values_of_different_types_are_no_wrong_usage(fails: Any) -> None:
    pytest.importorskip("pyarrow")
    rows = [{"text": "a", "n": 1}, {"text": "a", "n": "a text"}]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, error = fails("encode", "in.jsonl", "-o", "v.parquet", "--keep", "n")
    assert (code, "different types" in error) == (1, True), error


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "jsonl", "csv.gz"])
def test_an_empty_file_in_a_folder_has_no_rows(capsys: Capture, suffix: str) -> None:
    for name in (f"c/a.{suffix}", "c/z.jsonl"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("" if suffix in name else '{"text": "a"}\n')
    assert main(["encode", "c", "-o", "v/", "--format", "jsonl"]) == 0
    assert len(Path("v/z.jsonl").read_text().splitlines()) == (suffix != "jsonl")
    assert Path("v/a.jsonl").read_bytes() == b""


def test_a_full_disk_is_told_with_its_path_and_how_to_go_on(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertstream.files.parts.PART_ROWS", 20)
    Path("x.txt").write_text("a\n" * 100)
    written: list[int] = []

    def full(file: int) -> None:
        written.append(file)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["encode", "x.txt", "-o", "v.npy", "--no-progress"]) == 1
    error, note = capsys.readouterr().err.splitlines()
    assert error.startswith("bertstream: error: .v.npy.unfinished/files/v.npy/0")
    assert error.endswith(": No space left on device")
    assert note == "bertstream: note: v.npy is not finished: repeat the same command or call, and it goes on"


def test_an_interrupted_run_says_how_to_go_on(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bertstream.files.job.Job.finish", interrupted)
    assert main(["encode", "x.txt", "-o", "v.npy", "--no-progress"]) == 130
    assert capsys.readouterr().err.startswith("bertstream: note: v.npy is not finished: repeat the same command")
