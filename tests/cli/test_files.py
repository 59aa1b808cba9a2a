"""Commands over files, against a fake server."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from bertstream.cli import main
from bertstream.files.formats import INPUT_FORMATS, OUTPUT_FORMATS
from bertstream.files.schema import VectorLayout, VectorType
from tests.client.fake_encodings import vector
from tests.client.fake_generation import GENERATING
from tests.client.fake_server import FakeServer
from tests.client.fake_tasks import relevance

Capture = pytest.CaptureFixture[str]
Fails = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def folder(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    server.does.model.heads.extend(GENERATING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, *records: dict[str, Any]) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_encode(capsys: Capture) -> None:
    write("in.jsonl", {"id": 1, "text": "a"}, {"id": 2, "text": "b"})
    assert main(["encode", "in.jsonl", "-o", "v.jsonl", "--keep", "id"]) == 0
    assert rows("v.jsonl") == [{"id": n, "vector": vector(f"text:{text}").tolist()} for n, text in ((1, "a"), (2, "b"))]
    progress, told = capsys.readouterr().err.splitlines()
    assert progress.startswith("100 % · 2 rows · ")
    assert told.startswith("v.jsonl: 2 rows, 0.")


def test_long_rows_and_their_kind(server: FakeServer) -> None:
    windows = ["--long-texts", "windows", "--stride", "3", "--window-pooling", "max"]
    write("in.jsonl", {"text": "a"})
    assert main(["encode", "in.jsonl", "-o", "v.jsonl", "--kind", "query", *windows]) == 0
    asked = server.seen.options
    assert asked is not None
    assert (asked.text_kind, asked.windows, asked.stride, asked.window_pooling) == (1, True, 3, 2)
    for command in (["classify"], ["rerank", "a query", "--column", "text"]):
        assert main([*command, "-o", f"{command[0]}.jsonl", *windows, "in.jsonl"]) == 0
        assert (server.seen.task.windows, server.seen.task.stride, server.seen.task.window_pooling) == (True, 3, 2)


def test_rows_that_fail_have_an_exit_code(capsys: Capture) -> None:
    write("in.jsonl", {"text": "a"}, {"text": "bad"})
    assert main(["encode", "in.jsonl", "-o", "v.npy", "--no-progress", "--json"]) == 4
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["failed"], report["failed_file"]) == (2, 1, "v.npy.failed.jsonl")
    assert np.isnan(np.load("v.npy")).any(axis=1).tolist() == [False, True]
    assert rows("v.npy.failed.jsonl")[0]["row"] == 1
    assert main(["encode", "in.jsonl", "-o", "v.npy", "--overwrite"]) == 4
    assert capsys.readouterr().err.endswith("; 1 failed, see v.npy.failed.jsonl\n")


def test_outputs_are_not_overwritten(fails: Fails) -> None:
    write("in.jsonl", {"text": "a"})
    Path("v.npy").write_text("mine")
    code, error = fails("encode", "in.jsonl", "-o", "v.npy")
    assert (code, "v.npy is there already" in error, "--overwrite" in error) == (2, True, True)
    assert Path("v.npy").read_text() == "mine"


def test_folders_and_patterns(capsys: Capture) -> None:
    for name in ("c/lang=de/0.jsonl", "c/lang=fr/0.jsonl"):
        write(name, {"text": "a"})
    Path("c/README.md").touch()
    assert main(["encode", "c", "-o", "v/", "--format", "npy"]) == 0
    assert sorted(map(str, Path("v").rglob("*.npy"))) == ["v/lang=de/0.npy", "v/lang=fr/0.npy"]
    errors = capsys.readouterr().err
    assert "1 file(s), such as c/README.md" in errors
    assert "v/: 2 rows in 2 files" in errors
    assert main(["classify", "c/*/0.jsonl", "-o", "l/", "--format", "jsonl", "--top-k", "1"]) == 0
    assert len(rows("l/lang=fr/0.jsonl")[0]["labels"]) == 1


def test_a_file_of_input_that_has_no_lines() -> None:
    Path("in.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n'))
    assert main(["encode", "--input", "in.jsonl.gz", "-o", "v.npy"]) == 0
    np.testing.assert_array_equal(np.load("v.npy"), [vector("text:a")])


def test_standard_input(stdin: Any) -> None:
    stdin(b'{"body": "a"}\n{"body": "b"}\n')
    assert main(["encode", "-", "--input-format", "jsonl", "--column", "body", "-o", "v.npy"]) == 0
    np.testing.assert_array_equal(np.load("v.npy"), [vector("text:a"), vector("text:b")])
    stdin(b"a\n\nb\n")
    assert main(["classify", "-", "-o", "l.jsonl", "--keep", "all"]) == 0
    assert [row["text"] for row in rows("l.jsonl")] == ["a", "", "b"]
    pytest.importorskip("pyarrow")
    stdin(b"a\nb\n")
    assert main(["encode", "-", "-o", "v.parquet", "--vectors", "binary", "--vector-type", "float16"]) == 0


def test_texts_are_texts_still(fails: Fails, capsys: Capture) -> None:
    write("in.jsonl", {"text": "a"})
    assert main(["encode", "in.jsonl", "-o", "v.npy", "--literal"]) == 0
    assert np.load("v.npy").tolist() == [vector("text:in.jsonl").tolist()]
    for text in ("What?", "either/or, that is [MASK]", "hello"):
        assert main(["encode", text, "-o", "x.npy"]) == 0
        assert np.load("x.npy").tolist() == [vector(f"text:{text}").tolist()]
    capsys.readouterr()
    code, error = fails("encode", "no.jsonl", "-o", "y.npy")
    assert (code, error) == (1, "bertstream: error: no.jsonl: no such file\n")
    hint = fails("encode", "in.jsonl")[1]
    assert "`--input in.jsonl` reads a text from each of its lines, and `-o OUTPUT` its rows; --literal" in hint


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["encode", "a", "--column", "x"], "--column goes with --output FILE"),
        (["encode", "a", "--vector-type", "int8"], "--vector-type goes with --output FILE"),
        (["encode", "in.jsonl", "-o", "v.npy", "--column", "x"], "no column 'x' to read, but text"),
        (["encode", "in.jsonl", "-o", "v.npy", "--keep", "text"], ".npy holds vectors of floats and nothing else"),
        (["encode", "--input", "in.jsonl.gz"], "in.jsonl.gz has rows, but no lines of text: --output FILE reads them"),
        (["encode", "in.jsonl", "-o", "v.npz"], "of what format"),
        (["encode", "in.jsonl", "-o", "v", "--format", "npz"], "format must be one of"),
        (["encode", "in.jsonl", "-o", "v.npy", "--format", "parquet"], "v.npy: its name does not say parquet"),
        (["encode", "a", "-o", "v.npy", "--format", "npz"], "v.npy: its name does not say npz: leave --format"),
        (["classify", "in.jsonl", "-o", "v.jsonl", "--literal"], "--literal is for texts that are printed"),
        (["classify", "in.jsonl", "-o", "v.jsonl", "--skip-empty"], "in a file each row has its row"),
        (["classify", "in.jsonl", "--input", "in.jsonl", "-o", "v.jsonl"], "not both"),
        (["rerank", "q", "in.jsonl", "--top-k", "1", "-o", "v.jsonl"], "top_k is not for streams"),
        (["answer", "in.jsonl", "--file", "in.jsonl", "-o", "v.jsonl"], "--file is for one context"),
        (["answer", "in.jsonl", "-o", "v.jsonl", "--column", "text"], "answer reads two columns"),
        (["summarize", "in.jsonl", "in.jsonl"], "give one file, or --output for several"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(fails: Fails, argv: list[str], told: str) -> None:
    write("in.jsonl", {"text": "a"})
    code, error = fails(*argv)
    assert (code, told in error) == (2, True), error


@pytest.mark.parametrize(
    ("argv", "column"),
    [
        (["tokenize", "in.jsonl"], "token_ids"),
        (["classify", "in.jsonl"], "labels"),
        (["classify", "in.jsonl", "--pair", "b"], "labels"),
        (["zero-shot", "in.jsonl", "--labels", "x,y"], "labels"),
        (["entities", "in.jsonl"], "entities"),
        (["fill-mask", "in.jsonl", "--top-k", "1"], "masks"),
        (["score", "in.jsonl"], "score"),
        (["sparse", "in.jsonl"], "weights"),
        (["encode-multi", "in.jsonl"], "vectors"),
        (["answer", "in.jsonl", "--column", "question,text"], "answer"),
        (["answer", "Who?", "in.jsonl", "--column", "text"], "answer"),
        (["rerank", "in.jsonl", "--column", "question,text"], "score"),
        (["rerank", "q", "in.jsonl", "--column", "text"], "score"),
        (["rerank", "q", "--input", "in.jsonl", "--column", "text"], "score"),
        (["summarize", "in.jsonl", "--max-new-tokens", "2"], "summary"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_every_command(argv: list[str], column: str) -> None:
    write("in.jsonl", {"text": "Ann [MASK]", "question": "who?"}, {"text": "b [MASK]", "question": "what?"})
    assert main([*argv, "-o", "out.jsonl", "--no-progress"]) == 0
    found = rows("out.jsonl")
    assert [row[column] is not None for row in found] == [True, True]
    if argv[0] == "rerank":
        assert [row["score"] for row in found] == [relevance("Ann [MASK]"), relevance("b [MASK]")]


def test_options_list_the_names_of_the_package(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["encode", "--help"])
    listed = dict(re.findall(r"(--[a-z-]+)\s+\{([^}]+)\}", capsys.readouterr().out))
    names = {
        "--format": {"summary", "npz", *OUTPUT_FORMATS},  # of texts, too
        "--input-format": {*INPUT_FORMATS},
        "--vectors": {*get_args(VectorLayout)},
        "--vector-type": {*get_args(VectorType)},
    }
    assert {option: {*listed[option].split(",")} for option in names} == names


def test_help_has_an_example_of_each(capsys: Capture) -> None:
    commands = ("encode", "tokenize", "classify", "entities", "answer", "fill-mask", "rerank", "summarize", "sparse")
    for name in (*commands, "score", "zero-shot", "encode-multi"):
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert any(
            line.startswith(f"  bertstream {name} ") and " -o " in line for line in capsys.readouterr().out.splitlines()
        ), name


def test_without_pyarrow_the_error_says_what_to_install(folder: Path, server: FakeServer) -> None:
    """Text, JSON, CSV and NumPy's files do without it."""
    write("in.jsonl", {"text": "a"})
    code = "import sys; sys.modules['pyarrow'] = None; from bertstream.cli import main; sys.exit(main())"

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "encode", *argv]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("in.jsonl", "-o", "v.npy").returncode == 0
    done = run("in.jsonl", "-o", "v.parquet")
    told = "bertstream: error: Parquet needs pyarrow: pip install 'bertstream[files]'\n"
    assert (done.returncode, done.stderr) == (2, told)
