"""The client's part of the command line, against a fake server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.cli import main
from bertstream.cli._main import build_parser
from bertstream.cli._table import clipped, table, width
from bertstream.v1 import types_pb2
from tests.client.fake_encodings import vector
from tests.client.fake_server import Code, FakeServer, status
from tests.support.server import eventually


def test_models(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["NAME", "FAMILY", "LAYERS"]
    assert row.split()[:3] == ["tiny", "bert", "2"]
    assert header.index("HIDDEN") + len("HIDDEN") == row.index(" 8") + 2
    assert main(["models", "tiny"]) == 0
    details = capsys.readouterr().out
    assert "cls [CLS] 1" in details
    told = "least cosine of a token's state to float32 0.50000"
    assert f"{told}, greatest difference of a number 2.5e-01, on made-up texts" in details
    rows = {row.split()[0]: row.split(maxsplit=1)[1] for row in details.splitlines()}
    assert (rows["labels"], rows["generation"]) == ("negative, neutral, positive", "-")
    server.does.model.generation.max_tokens, server.does.model.generation.cache_tokens = 512, 65536
    assert main(["models", "tiny"]) == 0
    assert "at most 512 tokens, 65,536 of all at once" in capsys.readouterr().out


def test_models_that_are_less_precise_say_so_in_words(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.does.model.compute_type = types_pb2.DATA_TYPE_INT8
    assert main(["models"]) == 0
    *_, row, empty, words = capsys.readouterr().out.splitlines()
    assert ("int8" in row.split(), empty) == (True, "")
    assert words == "tiny in int8: least cosine of a token's state to float32 0.50000 on made-up texts"
    server.does.model.ClearField("precision_test")
    assert main(["models"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_models_as_json(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)
    assert (model["name"], model["limits"]["max_texts"], model["vector_size"]) == ("tiny", 128, 8)


def test_tokenize(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenize", "世", "b", "--max-length", "9"]) == 0
    first, header, *rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert first == "世  (8 tokens)"
    assert header.split() == ["#", "TOKEN", "ID", "START", "END", "WORD", "TEXT"]
    assert rows[1].split()[:5] == ["1", "t", "116", "0", "1"]
    assert len({width(row[: row.index(row.split()[2]) + len(row.split()[2])]) for row in rows}) == 1


@pytest.mark.parametrize(
    ("options", "windows", "stride"),
    [([], False, 0), (["--overflow"], True, 0), (["--stride", "0"], True, 0), (["--stride", "3"], True, 3)],
)
def test_tokenize_windows(server: FakeServer, options: list[str], windows: bool, stride: int) -> None:
    assert main(["tokenize", "a", "--max-length", "9", *options]) == 0
    seen = server.seen.requests[-1].options
    assert (seen.overflowing_windows, seen.stride) == (windows, stride)


def test_timeouts_without_an_end(server: FakeServer, fails: Any) -> None:
    assert main(["models", "--timeout", "inf"]) == main(["models", "--timeout", "1e12"]) == 0
    assert fails("models", "--timeout", "nan")[0] == 2


def test_tokenize_lines_as_json(server: FakeServer, capsys: pytest.CaptureFixture[str], stdin: Any) -> None:
    stdin("é\r\n\nlast".encode())
    assert main(["tokenize", "-", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["é", "", "last"]
    assert rows[0]["offsets"][1] == [0, 1]


def test_encode_prints_lines_in_a_pipe(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", "a", "b", "--pooling", "cls", "--layers=-1,-2", "--wire-type", "float16"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [{"id": 0, "vector": vector("text:a").tolist()}, {"id": 1, "vector": vector("text:b").tolist()}]


def test_encode_prints_a_summary(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", "hello", "--format", "summary"]) == 0
    assert capsys.readouterr().out.startswith("0 hello\n  [8] float32, norm ")


@pytest.mark.parametrize("suffix", ["npy", "npz", "jsonl"])
def test_encode_lines_to_a_file(server: FakeServer, tmp_path: Path, stdin: Any, suffix: str) -> None:
    stdin(b"".join(b"t%d\n" % i for i in range(1000)))
    path = tmp_path / f"v.{suffix}"
    assert main(["encode", "-", "--output", str(path), "--batch-size", "96"]) == 0
    expected = np.array([vector(f"text:t{i}") for i in range(1000)])
    if suffix == "jsonl":
        vectors = np.array([json.loads(line)["vector"] for line in path.read_text().splitlines()])
    else:
        loaded = np.load(path)
        vectors = loaded["vectors"] if suffix == "npz" else loaded
        assert suffix == "npy" or loaded["ids"].tolist() == list(range(1000))
    np.testing.assert_array_equal(vectors, expected)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["npy", "npz", "jsonl"])
def test_encode_nothing_to_a_file(server: FakeServer, tmp_path: Path, stdin: Any, suffix: str) -> None:
    stdin(b"")
    assert main(["encode", "-", "--output", str(tmp_path / f"v.{suffix}")]) == 0
    assert (tmp_path / f"v.{suffix}").exists()


def test_encode_that_fails_leaves_no_file(server: FakeServer, tmp_path: Path, stdin: Any, fails: Any) -> None:
    for suffix in ("npy", "npz", "jsonl"):
        stdin(b"a\n" * 100 + b"bad\n")
        code, error = fails("encode", "-", "--output", str(tmp_path / f"v.{suffix}"))
        assert (code, "item 100: a bad text" in error) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_encode_keeps_going(server: FakeServer, tmp_path: Path, stdin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stdin(b"bad\n\xff\na\n")
    path = tmp_path / "v.npy"
    code, *_ = (main(["encode", "-", "--output", str(path), "--keep-going", "--batch-size", "1"]),)
    assert code == 1
    assert np.isnan(np.load(path)).all(axis=1).tolist() == [True, True, False]
    *failures, done = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in failures] == ["item 0", "item 1"]
    assert done.startswith(f"{path}: 3 vectors of 8 float32, ")
    assert done.endswith(", 2 texts failed")


def test_health(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health"]) == 0
    assert capsys.readouterr().out == "SERVING\n"
    server.does.health = 2
    assert main(["health", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"status": "NOT_SERVING"}
    assert main(["health", "other"]) == 1
    assert capsys.readouterr().out == "SERVICE_UNKNOWN\n"


def test_failures_are_one_line(server: FakeServer, tmp_path: Path, fails: Any) -> None:
    server.does.failures.append(status(Code.INVALID_ARGUMENT, "wrong\nindeed"))
    assert fails("tokenize", "a") == (1, "bertstream: error: wrong indeed\n")
    code, error = fails("models", "--address", "127.0.0.1:1")
    assert (code, "no server at 127.0.0.1:1" in error) == (3, True)
    assert fails("encode")[0] == 2
    assert fails("encode", "a", "--output", "x.txt")[0] == 2
    assert fails("encode", "a", "--format", "npy")[0] == 2
    assert fails("encode", "a", "--max-length", "0")[0] == 2
    assert fails("nonsense")[0] == 2
    for seconds in ("-1", "0", "nan"):
        assert "must be a number above 0" in fails("models", "--timeout", seconds)[1]
    assert fails("encode", "a", "--output", str(tmp_path / "no" / "x.npy"))[0] == 1
    assert fails("encode", "a", "--model", "other")[0] == 1


def test_ctrl_c(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("bertstream.client.Client.health", interrupted)
    assert main(["health"]) == 130


@pytest.mark.parametrize("suffix", ["npy", "npz", "jsonl"])
def test_ctrl_c_leaves_no_half_file(server: FakeServer, tmp_path: Path, suffix: str) -> None:
    command = [sys.executable, "-m", "bertstream.cli", "encode", "-", "-o", str(tmp_path / f"v.{suffix}")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdin
    process.stdin.write(b"a text\n" * 1000)  # and no end
    process.stdin.flush()
    eventually(lambda: bool(list(tmp_path.iterdir())), "the file")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error, list(tmp_path.iterdir())) == (130, b"", [])


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    commands = ("models", "load", "unload", "tokenize", "encode", "similarity", "layers", "attention", "health")
    for command in ((), *((name,) for name in commands)):
        with pytest.raises(SystemExit, match="0"):
            main([*command, "--help"])
        assert "examples:" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("bertstream ")


def test_a_reader_that_leaves(server: FakeServer) -> None:
    command = f"{sys.executable} -m bertstream.cli encode - --json"
    texts = "\n".join(f"t{i}" for i in range(20_000))
    script = f"set -o pipefail; {command} | head -n 1; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["bash", "-c", script], input=texts, capture_output=True, text=True, env=environment, check=False, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_widths() -> None:
    assert [width(text) for text in ("abc", "世界", "e\u0301", "😀", "")] == [3, 4, 1, 2, 0]
    assert clipped("世界世界", 5) == "世界…"
    assert [clipped(text, 4) for text in ("abcd", "abcde", "abc世", "e\u0301abc\u0301", "")] == [
        *("abcd", "abc…", "abc…", "e\u0301abc\u0301", "")
    ]
    assert clipped("word " * 1_000_000, 9) == "word wor…"  # within a moment
    assert clipped("a\x1b[2J\n", 99) == "a\\x1b[2J\\n"
    assert table(("A", "B"), [("世", "1"), ("x", "22")], right=(1,)) == "A    B\n世   1\nx   22"


def test_an_unknown_option_names_the_help_of_its_command(fails: Any) -> None:
    assert fails("encode", "a", "--nonsense", "-x") == (
        2,
        "bertstream: error: unrecognized arguments: --nonsense -x (see `bertstream encode --help`)\n",
    )
    assert "(see `bertstream --help`)" in fails("--nonsense", "models")[1]


def test_small_questions_do_not_wait_for_ever() -> None:
    for name in ("health", "models"):
        assert build_parser().parse_args([name]).timeout == 10
        assert build_parser().parse_args([name, "--timeout", "60"]).timeout == 60
    assert build_parser().parse_args(["encode", "a"]).timeout is None


def test_a_server_that_does_not_answer(fails: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, error = fails("health", "--address", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.5")
    assert code in (1, 3), error
