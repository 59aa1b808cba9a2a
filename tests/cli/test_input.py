"""Where commands take their texts from: arguments, the lines of a file, or those of standard input."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.cli import main
from bertstream.cli._input import Line, lines
from bertstream.cli._main import build_parser
from tests.client.fake_encodings import vector
from tests.client.fake_generation import GENERATING
from tests.client.fake_server import FakeServer

Capture = pytest.CaptureFixture[str]
Fails = Callable[..., tuple[int, str]]
FILE = "FILE"

READS_LINES = [
    *(["encode"], ["encode-multi"], ["tokenize"], ["similarity", "a"], ["fill-mask"], ["score"], ["sparse"]),
    *(["classify"], ["entities"], ["zero-shot", "--labels", "x"], ["rerank", "a"], ["generate"]),
    ["bench", "--calls", "3", "--texts", "3"],
]
NAMES_OF_FILES = [
    *(["encode", FILE], ["tokenize", FILE], ["fill-mask", FILE], ["score", FILE], ["entities", FILE]),
    *(["similarity", "a", FILE], ["similarity", FILE, "a"], ["rerank", "a", FILE], ["rerank", FILE, "a"]),
    *(["classify", FILE], ["classify", "a", "--pair", FILE], ["zero-shot", FILE, "--labels", "x"]),
    *(["choose", FILE, "a", "b"], ["choose", "a", FILE], ["next-sentence", FILE, "a"], ["next-sentence", "a", FILE]),
    *(["answer", FILE, "a"], ["answer", "a", FILE], ["layers", FILE], ["attention", FILE], ["generate", FILE]),
    *(["encode", FILE, FILE], ["encode-multi", FILE], ["sparse", FILE]),
]
NO_TEXTS = {"help", "name", "source", "service", "file", "shell"}  # the arguments of models, load, unload, …


@pytest.fixture(autouse=True)
def heads(server: FakeServer) -> None:
    server.does.model.heads.extend(GENERATING)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "my [MASK].txt"
    path.write_bytes("é [MASK]\r\n\t[MASK]\n[MASK] end".encode())
    return path


def with_file(argv: list[str], path: Path) -> list[str]:
    return [str(path) if argument == FILE else argument for argument in argv]


@pytest.mark.parametrize("argv", NAMES_OF_FILES, ids=" ".join)
def test_a_files_name_is_not_taken_as_a_text(server: FakeServer, fails: Fails, notes: Path, argv: list[str]) -> None:
    code, error = fails(*with_file(argv, notes))
    assert (code, server.seen.rpcs.total()) == (2, 0)
    names = f"{notes} and 1 more are names of files: " if argv.count(FILE) > 1 else f"{notes} is the name of a file: "
    assert names in error
    assert f"'{notes}'" in error  # quoted for the shell
    assert error.endswith("; --literal takes a name as a text\n")
    assert main([*with_file(argv, notes), "--literal"]) == 0


def test_what_to_do_with_a_file_is_said(fails: Fails, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(notes.parent)
    Path("a.txt").touch()
    assert "`--input a.txt` reads a text from each of its lines" in fails("rerank", "query", "a.txt")[1]
    assert "`--file a.txt` reads it" in fails("answer", "Who?", "a.txt")[1]
    assert '`"$(cat a.txt)"` is its content' in fails("layers", "a.txt")[1]


def test_every_argument_that_is_a_text_is_looked_at() -> None:
    (commands,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, parser in commands.choices.items():
        positional = {action.dest for action in parser._actions if not action.option_strings}
        assert positional - NO_TEXTS <= set(parser.get_default("text_arguments") or {}), name
    covered = {argv[0] for argv in NAMES_OF_FILES}
    assert covered == {name for name, parser in commands.choices.items() if parser.get_default("text_arguments")}


@pytest.mark.parametrize("text", ["a" * 5000, "a\0b", "", ".", "no such file.txt"])
def test_other_texts_are_texts(server: FakeServer, text: str) -> None:
    assert main(["tokenize", text]) == 0


def test_one_of_several_texts_may_be_named_as_a_file_is(server: FakeServer, notes: Path) -> None:
    assert main(["tokenize", "hello", str(notes)]) == 0


@pytest.mark.parametrize("argv", READS_LINES, ids=" ".join)
def test_a_file_is_read_as_standard_input_is(
    server: FakeServer, capsys: Capture, stdin: Any, notes: Path, argv: list[str]
) -> None:
    printed = []
    for source in (["-"], ["--input", str(notes)], ["--input", "-"]):
        stdin(notes.read_bytes())
        assert main([*argv, *source, "--json"]) == 0
        rows = capsys.readouterr().out
        printed.append(json.loads(rows)["model"] if argv[0] == "bench" else rows)
    assert printed[0] == printed[1] == printed[2] != ""


@pytest.mark.parametrize("argv", READS_LINES, ids=" ".join)
def test_a_file_that_cannot_be_read_is_told_before_the_server_is_asked(
    tmp_path: Path, fails: Fails, argv: list[str]
) -> None:
    nowhere = ["--address", "127.0.0.1:1"]
    assert fails(*argv, "--input", "none.txt", *nowhere) == (
        1,
        "bertstream: error: none.txt: No such file or directory\n",
    )
    assert fails(*argv, "--input", str(tmp_path), *nowhere) == (1, f"bertstream: error: {tmp_path}: Is a directory\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_one_may_not_read(tmp_path: Path, fails: Fails) -> None:
    path = tmp_path / "secret.txt"
    path.touch(mode=0)
    assert fails("encode", "--input", str(path)) == (1, f"bertstream: error: {path}: Permission denied\n")


@pytest.mark.parametrize("argv", READS_LINES, ids=" ".join)
def test_texts_and_a_file_are_too_much(notes: Path, fails: Fails, argv: list[str]) -> None:
    text = "-" if argv[0] == "bench" else "b"
    for given in ([*argv, text, "--input", str(notes)], [*argv, "--input", str(notes), text]):
        code, error = fails(*given)
        assert (code, "not both" in error or "unrecognized arguments" in error) == (2, True)


def test_options_may_stand_anywhere(server: FakeServer, notes: Path, tmp_path: Path) -> None:
    assert main(["rerank", "query", "--top-k", "1", "document"]) == 0
    assert main(["rerank", "--input", str(notes), "query"]) == 0
    assert main(["rerank", "query", "--input", str(notes), "--top-k", "1"]) == 0
    assert main(["answer", "Who?", "--top-k", "1", "Olaf"]) == 0
    assert main(["answer", "--file", str(notes), "Who?"]) == 0


def test_lines_that_are_left_out_still_count(server: FakeServer, tmp_path: Path, capsys: Capture) -> None:
    source = tmp_path / "corpus.txt"
    source.write_bytes(b"\none\r\n \t\r\n\ntwo\n\n")
    encode = ["encode", "--input", str(source), "--skip-empty"]
    assert main([*encode, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [{"id": 1, "vector": vector("text:one").tolist()}, {"id": 4, "vector": vector("text:two").tolist()}]
    assert main([*encode, "-o", str(tmp_path / "v.npz")]) == 0
    arrays = np.load(tmp_path / "v.npz")
    assert (arrays["ids"].tolist(), arrays["vectors"].shape) == ([1, 4], (2, 8))
    capsys.readouterr()
    assert main(["rerank", "query", "--input", str(source), "--skip-empty", "--json"]) == 0
    ranked = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["index"]: each["document"] for each in ranked} == {1: "one", 4: "two"}
    assert main(["summarize", str(source), "--lines", "--skip-empty", "--json"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [1, 4]


def test_a_benchmark_leaves_empty_lines_out_too(server: FakeServer, stdin: Any, fails: Fails) -> None:
    stdin(b"\n \n")
    assert fails("bench", "-", "--skip-empty") == (2, "bertstream: error: standard input has no texts\n")


def test_a_line_that_fails_has_its_own_number(server: FakeServer, stdin: Any, fails: Fails) -> None:
    for command in ("encode", "generate"):
        stdin(b"\n\na\n\nbad\n")
        assert "item 4: a bad text" in fails(command, "-", "--skip-empty")[1]


@pytest.mark.parametrize("argv", READS_LINES[:-1], ids=" ".join)
def test_empty_lines_are_left_out_on_request(server: FakeServer, capsys: Capture, stdin: Any, argv: list[str]) -> None:
    def rows(*options: str) -> int:
        stdin(b"[MASK]\n\n[MASK]\n")
        code = main([*argv, "-", "--json", *options])
        return -1 if code else len(capsys.readouterr().out.splitlines())

    assert rows("--skip-empty") == 2
    assert rows() == (-1 if argv[0] == "fill-mask" else 3)  # a text without a mask is refused


def test_skip_empty_is_for_lines(fails: Fails, notes: Path) -> None:
    for argv in (["encode", "a", "--skip-empty"], ["summarize", str(notes), "--skip-empty"]):
        code, error = fails(*argv)
        assert (code, "--skip-empty" in error) == (2, True)


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes("a\r\n\n\u2028b\x0c\r\n\xa0\nlast".encode() + b"\xff")
    with path.open("rb") as file:
        assert [line.text for line in lines(file)] == ["a", "", "\u2028b\x0c", "\xa0", "last\udcff"]
    with path.open("rb") as file:
        assert list(lines(file, skip_empty=True)) == [Line(0, "a"), Line(2, "\u2028b\x0c"), Line(4, "last\udcff")]
