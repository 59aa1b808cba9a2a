"""The commands for generation, against a fake server."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertstream.cli import main
from bertstream.cli._generate import shown
from bertstream.client import Client, GenerationDone, GenerationPiece, Timings, Usage
from bertstream.v1 import generation_pb2 as generation
from bertstream.v1 import types_pb2 as types
from tests.client.fake_generation import GENERATING
from tests.client.fake_server import Code, FakeServer, status
from tests.support.server import eventually

Capture = pytest.CaptureFixture[str]
GONE = status(Code.UNAVAILABLE, "gone", "WORKER_LOST")
POISON = status(Code.ABORTED, "poison", "POISONOUS_INPUT")


@pytest.fixture(autouse=True)
def heads(server: FakeServer) -> None:
    server.does.model.heads.extend(GENERATING)


def written(prompt: str, sequence: int = 0, words: int = 2) -> str:
    return f"text:{prompt}>{sequence}" + "".join(f" w{number}" for number in range(1, words + 1))


def test_generate(server: FakeServer, capsys: Capture) -> None:
    assert main(["generate", "ab"]) == 0
    assert capsys.readouterr().out == written("ab") + "\n"
    assert server.seen.rpcs["StreamGeneration"] == 1
    assert main(["generate", "é", "--num-return-sequences", "3", "--do-sample", "--max-new-tokens", "4"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{i + 1}: {written('é', i, 3)}" for i in range(3)]


def test_pieces_are_seen_as_they_come(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, "utf-8", write_through=False))

    def pieces(*_: Any, **__: Any) -> Iterator[GenerationPiece]:
        yield GenerationPiece("a fox", (1,))
        assert file.getvalue() == b"a fox"
        yield GenerationPiece(" runs\x1b[2J", (2,))
        assert file.getvalue() == b"a fox runs\\x1b[2J"
        yield GenerationDone(outputs=[], usage=Usage(1, 2, 0), timings=Timings(None, None, None, None))

    monkeypatch.setattr(Client, "stream_generate", pieces)
    assert main(["generate", "ab"]) == 0
    assert file.getvalue() == b"a fox runs\\x1b[2J\n"


def test_an_answer_without_text_is_an_empty_line(
    server: FakeServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = GenerationDone(outputs=[], usage=Usage(1, 2, 0), timings=Timings(None, None, None, None))
    monkeypatch.setattr(Client, "stream_generate", lambda *_, **__: iter([done]))
    assert main(["generate", "ab"]) == 0
    assert capsys.readouterr().out == "\n"


def test_a_beam_search_is_printed_at_its_end(server: FakeServer, capsys: Capture) -> None:
    options = ["--num-beams", "3", "--length-penalty", "0.5", "--early-stopping", "never"]
    assert main(["generate", "ab", "--num-return-sequences", "2", *options]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{i + 1}: {written('ab', i)}" for i in range(2)]
    assert server.seen.rpcs["StreamGeneratedTexts"] == 1
    sent = server.seen.task
    assert (sent.num_beams, sent.length_penalty) == (3, 0.5)
    assert (sent.early_stopping, sent.priority) == (generation.EARLY_STOPPING_NEVER, types.PRIORITY_INTERACTIVE)


OPTIONS: list[tuple[list[str], dict[str, Any]]] = [
    (["--max-new-tokens", "5", "--min-new-tokens", "2"], {"max_new_tokens": 5, "min_new_tokens": 2}),
    (["--do-sample", "--temperature", "0.5", "--top-k", "0"], {"do_sample": True, "temperature": 0.5, "top_k": 0}),
    (["--no-do-sample"], {"do_sample": False}),
    (["--top-p", "0.75", "--seed", "7"], {"top_p": 0.75, "seed": 7}),
    (
        ["--repetition-penalty", "1.5", "--no-repeat-ngram-size", "2"],
        {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
    ),
    (["--bad-word", "x", "--bad-word", "y"], {"bad_words": ["x", "y"]}),
    (["--stop", "w3", "--eos-token-id", "77"], {"stop_strings": ["w3"], "eos_token_ids": [77]}),
    (["--keep-special-tokens", "--no-special-tokens"], {"keep_special_tokens": True, "add_special_tokens": False}),
    ([], {"num_beams": 1, "num_return_sequences": 1}),
]


@pytest.mark.parametrize(("flags", "wanted"), OPTIONS, ids=str)
def test_options_reach_the_server(server: FakeServer, flags: list[str], wanted: dict[str, Any]) -> None:
    assert main(["generate", "ab", "--model", "tiny", "--max-length", "9", "--truncation-side", "right", *flags]) == 0
    options = server.seen.requests[-1].options
    assert {name: getattr(options, name) for name in wanted} == wanted
    assert (options.model, options.truncation.max_length) == ("tiny", 9)


def test_json(server: FakeServer, capsys: Capture) -> None:
    assert main(["generate", "é", "--json", "--token-scores", "--num-return-sequences", "2"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["prompt"], len(values["answers"])) == ("é", 2)
    assert values["answers"][1] == {
        "text": written("é", 1),
        "token_ids": [100, 101, 102],
        "finish_reason": "length",
        "score": -0.75,
        "token_scores": [-0.125, -0.25, -0.375],
        "input_tokens": 6,
    }
    assert main(["generate", "é", "--json"]) == 0
    assert "token_scores" not in json.loads(capsys.readouterr().out)["answers"][0]


def test_prompts_of_standard_input(server: FakeServer, capsys: Capture, stdin: Any) -> None:
    server.does.reverse, server.does.hold_first = True, 5
    stdin("é\r\n\n".encode() + b"".join(b"t%d\n" % number for number in range(300)))
    assert main(["generate", "-"]) == 0
    prompts = ["é", "", *(f"t{number}" for number in range(300))]
    assert capsys.readouterr().out.splitlines() == list(map(written, prompts))
    assert server.seen.task.priority == types.PRIORITY_BULK
    stdin(b"a\nb")
    assert main(["generate", "-", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["prompt"], row["answers"][0]["text"]) for row in rows] == [("a", written("a")), ("b", written("b"))]
    stdin(b"a\nb")
    assert main(["generate", "-", "--do-sample", "--num-return-sequences", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{i + 1}: {written(key, i)}" for key in "ab" for i in range(2)]


def test_lines_that_fail(server: FakeServer, capsys: Capture, stdin: Any) -> None:
    lines = b"a\nbad\n\xff\nd\n"
    stdin(lines)
    assert main(["generate", "-"]) == 1
    out, error = capsys.readouterr()
    assert (out, error) == (written("a") + "\n", "bertstream: error: item 1: a bad text (inputs.texts: bad)\n")
    stdin(lines)
    assert main(["generate", "-", "--keep-going"]) == 1
    out, error = capsys.readouterr()
    assert out.splitlines() == [written("a"), "", "", written("d")]
    assert [line.split(": ")[2] for line in error.splitlines()] == ["item 1", "item 2"]
    stdin(lines)
    assert main(["generate", "-", "--keep-going", "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.get("error", {}).get("status") for row in rows] == [None, "INVALID_ARGUMENT", "INVALID_ARGUMENT", None]
    assert [row["prompt"] for row in rows] == ["a", "bad", "\ufffd", "d"]


def test_a_line_of_output_stays_a_line() -> None:
    assert shown("a\tb\nc\x1b[0m\rd") == "a\tb\nc\\x1b[0m\\rd"


def test_failures_are_one_line(server: FakeServer, fails: Any) -> None:
    server.does.breaks.append((1, POISON))
    code, error = fails("generate", "ab")
    assert (code, "poison" in error) == (1, True)
    assert fails("generate", "bad")[0] == 1
    assert fails("generate", "a", "--max-new-tokens", "0")[0] == 2
    assert fails("generate", "a", "--early-stopping", "soon")[0] == 2
    assert fails("generate", "a", "--model", "other", "--json")[0] == 1


def test_a_half_printed_answer_ends_its_line(server: FakeServer, capsys: Capture) -> None:
    server.does.breaks.append((3, POISON))
    assert main(["generate", "ab"]) == 1
    assert capsys.readouterr().out == "text:ab>0\n"


def test_an_answer_goes_on_where_its_connection_broke(server: FakeServer, capsys: Capture) -> None:
    assert main(["generate", "ab"]) == 0
    whole = capsys.readouterr().out
    server.does.breaks.append((3, GONE))
    assert main(["generate", "ab"]) == 0
    assert capsys.readouterr().out == whole


def test_ctrl_c_cancels_the_call(server: FakeServer) -> None:
    server.does.layer_gate = threading.Event()
    command = [sys.executable, "-m", "bertstream.cli", "generate", "ab", "--max-new-tokens", "9"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    eventually(lambda: bool(server.seen.pieces), "the first piece")
    threading.Event().wait(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    server.does.layer_gate.set()
    assert (process.returncode, error) == (130, b"")
    assert server.seen.cancelled.wait(20)


def test_summarize_a_file(server: FakeServer, capsys: Capture, tmp_path: Path, stdin: Any) -> None:
    path = tmp_path / "article.txt"
    path.write_text("é\nb", "utf-8")
    assert main(["summarize", str(path), "--num-beams", "4", "--min-new-tokens", "2"]) == 0
    assert capsys.readouterr() == (written("é\nb") + "\n", "")
    assert (server.seen.task.num_beams, server.seen.task.min_new_tokens) == (4, 2)
    assert server.seen.task.priority == types.PRIORITY_INTERACTIVE
    stdin("é\nb".encode())
    assert main(["summarize", "-", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["summary"], values["input_tokens"]) == (written("é\nb"), 8)
    assert list(values) == ["summary", "token_ids", "finish_reason", "score", "input_tokens"]


def test_summarize_lines(server: FakeServer, capsys: Capture, tmp_path: Path, stdin: Any) -> None:
    path = tmp_path / "articles.txt"
    path.write_text("\n".join(f"t{number}" for number in range(99)))
    assert main(["summarize", str(path), "--lines"]) == 0
    assert capsys.readouterr().out.splitlines() == [written(f"t{number}") for number in range(99)]
    stdin(b"a\nbad\n")
    assert main(["summarize", "-", "--lines", "--json", "--keep-going"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (rows[0]["id"], rows[0]["summary"], rows[1]["id"]) == (0, written("a"), 1)
    assert rows[1]["error"]["message"] == "a bad text"


def test_a_text_that_was_cut_is_noted(server: FakeServer, capsys: Capture, stdin: Any) -> None:
    for lines, note in ((1, "1 text was cut to 32 tokens"), (3, "3 texts were cut to 32 tokens")):
        stdin((b"x" * 40 + b"\n") * lines + b"short\n")
        assert main(["summarize", "-", "--lines"]) == 0
        assert capsys.readouterr().err == f"bertstream: note: {note}\n"


def test_summaries_that_fail(server: FakeServer, tmp_path: Path, fails: Any) -> None:
    path = tmp_path / "article.txt"
    path.write_bytes(b"\xff")
    code, error = fails("summarize", str(path))
    assert (code, "not valid Unicode" in error) == (1, True)
    assert fails("summarize", str(tmp_path / "none.txt"))[0] == 1
    server.does.model.heads[:] = ["fill_mask"]
    code, error = fails("summarize", str(path))
    assert (code, "cannot summarize" in error) == (1, True)


def test_a_file_that_is_not_there_is_told_before_the_server_is_asked(tmp_path: Path, fails: Any) -> None:
    missing = tmp_path / "none.txt"
    code, error = fails("summarize", str(missing), "--address", "127.0.0.1:1")
    assert code == 1
    assert error == f"bertstream: error: {missing}: No such file or directory\n"


@pytest.mark.parametrize("name", ["generate", "summarize"])
def test_help(capsys: Capture, name: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    out = capsys.readouterr().out
    assert "examples:" in out
    assert "--no-repeat-ngram-size" in out
