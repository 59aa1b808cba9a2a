"""The commands for task heads, against a fake server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bertstream.cli import main
from bertstream.cli._tasks.entities import coloured
from bertstream.client import Entity
from tests.client.fake_server import Code, FakeServer, status
from tests.client.fake_tasks import LABELS, labels_of, log_probabilities, next_probability, relevance

Capture = pytest.CaptureFixture[str]
COMMANDS: dict[str, list[str]] = {
    "fill-mask": ["[MASK]"],
    "score": ["a"],
    "classify": ["a"],
    "zero-shot": ["a", "--labels", "x"],
    "rerank": ["a", "b"],
    "entities": ["a"],
    "answer": ["a", "b"],
    "choose": ["a", "b"],
    "next-sentence": ["a", "b"],
    "sparse": ["a"],
}


def lines(capsys: Capture) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_fill_mask(server: FakeServer, capsys: Capture) -> None:
    assert main(["fill-mask", "a [MASK]", "--top-k", "2"]) == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert (title, header.split()) == ("a [MASK]", ["SCORE", "TOKEN", "TEXT"])
    assert [row.split() for row in rows if row] == [["0.5000", "t00", "a", "t00"], ["0.2500", "t01", "a", "t01"]]
    assert main(["fill-mask", "[MASK] [MASK]", "--targets", "x, yy"]) == 0
    out = capsys.readouterr().out
    assert "TEXT WITH MASK 2" in out
    assert "[MASK] yy" in out


def test_fill_mask_lines_as_json(server: FakeServer, capsys: Capture, stdin: Any) -> None:
    stdin("é [MASK]\n[MASK]\n".encode())
    assert main(["fill-mask", "-", "--json", "--top-k", "1"]) == 0
    first, second = lines(capsys)
    assert (first["text"], second["text"]) == ("é [MASK]", "[MASK]")
    candidate = {"token": "t00", "token_id": 0, "score": 0.5, "sequence": "é t00", "position": 1}
    assert first["masks"] == [[candidate]]


def test_score(server: FakeServer, capsys: Capture) -> None:
    assert main(["score", "abc", ""]) == 0
    header, row, empty = capsys.readouterr().out.splitlines()
    assert header.split() == ["SCORE", "TOKENS", "PERPLEXITY", "TEXT"]
    assert row.split() == [f"{sum(log_probabilities('abc')):.3f}", "3", "2.150", "abc"]
    assert empty.split() == ["0.000", "0", "nan"]
    assert main(["score", "abc", "", "--json"]) == 0
    one, none = lines(capsys)
    assert (one["log_probabilities"], one["token_ids"]) == (log_probabilities("abc"), [97, 98, 99])
    assert none["perplexity"] is None


def test_sparse(server: FakeServer, capsys: Capture) -> None:
    assert main(["sparse", "abbb", ""]) == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert (title, header.split()) == ("abbb", ["WEIGHT", "TOKEN"])
    assert [row.split() for row in rows if row] == [["0.7500", "b"], ["0.2500", "a"], ["WEIGHT", "TOKEN"]]
    assert server.seen.requests[-1].options.top_k == 0  # as the checkpoint says; the table shows the best of them
    assert main(["sparse", "".join(chr(ord("a") + number) for number in range(26))]) == 0
    assert len(capsys.readouterr().out.split()) == 1 + 2 + 2 * 20
    assert main(["sparse", "abc", "--top-k", "0"]) == 2
    assert "top_k" in capsys.readouterr().err
    assert main(["sparse", "ba", "--json", "--prompt", "c"]) == 0
    (row,) = lines(capsys)
    assert row == {"text": "ba", "token_ids": [97, 98, 99], "weights": [0.25] * 3, "tokens": ["a", "b", "c"]}
    assert server.seen.requests[-1].options.top_k == 0


def test_classify(server: FakeServer, capsys: Capture) -> None:
    assert main(["classify", "hello", "--top-k", "2"]) == 0
    rows = capsys.readouterr().out.splitlines()
    names = [LABELS[number] for number in labels_of("text:hello")]
    assert [row.split() for row in rows] == [["0.5000", names[0], "hello"], ["0.2500", names[1]]]
    assert main(["classify", "one", "--pair", "two", "--function", "none", "--json"]) == 0
    (row,) = lines(capsys)
    assert [label["label_id"] for label in row["labels"]] == labels_of("pair:one|two")
    assert row["labels"][0]["score"] == 4


def test_zero_shot(server: FakeServer, capsys: Capture) -> None:
    options = ["--labels", "sport, art", "--template", "On {}.", "--multi-label", "--max-length", "9"]
    assert main(["zero-shot", "text", *options]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split() for row in rows] == [["0.5000", "art", "text"], ["0.2500", "sport"]]
    seen = server.seen.requests[-1].options
    assert (seen.hypothesis_template, seen.multi_label, seen.truncation.max_length) == ("On {}.", True, 9)


def test_rerank(server: FakeServer, capsys: Capture, stdin: Any) -> None:
    assert main(["rerank", "query", "b", "z"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["SCORE", "INDEX", "DOCUMENT"]
    assert [row.split() for row in rows] == [["0.8125", "1", "z"], ["0.0625", "0", "b"]]
    documents = [chr(97 + index % 26) for index in range(300)]
    stdin("\n".join(documents).encode())
    assert main(["rerank", "query", "-", "--top-k", "30", "--json"]) == 0
    ranked = lines(capsys)
    best = sorted(range(300), key=lambda index: -relevance(documents[index]))[:30]
    assert [(each["index"], each["document"]) for each in ranked] == [(index, documents[index]) for index in best]


def test_entities_as_a_table(server: FakeServer, capsys: Capture) -> None:
    assert main(["entities", "so Angela met", "none"]) == 0
    first, second, _ = capsys.readouterr().out.split("\n\n")
    title, header, row = first.splitlines()
    assert (title, header.split()) == ("so Angela met", ["LABEL", "SCORE", "START", "END", "TEXT"])
    assert row.split() == ["ENT", "0.5000", "3", "9", "Angela"]
    assert second.splitlines() == ["none", "no entities"]


def test_entities_on_a_terminal(server: FakeServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["entities", "so Angela met"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("so \x1b[1;38;5;")
    assert out.endswith("mAngela\x1b[22m[ENT]\x1b[0m met\n")
    assert main(["entities", "so Angela met", "--table"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["entities", "so Angela met"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_coloured_entities_that_overlap_and_texts_with_escapes() -> None:
    found = [Entity("A", 1, "", 0, 2, None), Entity("B", 1, "", 1, 3, None), Entity("A", 1, "", 3, 4, None)]
    text = coloured("ab\x1b世", found)
    assert text.count("[A]") == 2
    assert "[B]" not in text
    assert "\\x1b" in text
    assert text.endswith("世\x1b[22m[A]\x1b[0m")


def test_entities_as_json(server: FakeServer, capsys: Capture) -> None:
    options = ["--aggregation", "none", "--ignored-labels", "ENT", "--json"]
    assert main(["entities", "so Angela met", *options]) == 0
    (row,) = lines(capsys)
    found = [(entity["label"], entity["token_index"]) for entity in row["entities"]]
    assert found == [("O", 1), ("B-ENT", 2), ("O", 3)]


def test_entities_by_labels(server: FakeServer, capsys: Capture) -> None:
    options = ["--labels", "person, big city", "--threshold", "0.25", "--nested", "--multi-label"]
    assert main(["entities", "so Angela met", *options]) == 0
    assert "Angela" in capsys.readouterr().out
    seen = server.seen.requests[-1].options
    assert (list(seen.labels), seen.threshold) == (["person", "big city"], 0.25)
    assert (seen.nested, seen.multi_label) == (True, True)


def test_answer(server: FakeServer, capsys: Capture, stdin: Any, tmp_path: Path) -> None:
    assert main(["answer", "Who?", "Olaf did", "--top-k", "2", "--max-length", "50"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["SCORE", "START", "END", "ANSWER"]
    assert [row.split() for row in rows] == [["0.5000", "0", "4", "Olaf"], ["0.2500", "5", "8", "did"]]
    assert server.seen.requests[-1].options.max_length == 50
    stdin("Ölaf\ndid".encode())
    assert main(["answer", "Who?", "-", "--json"]) == 0
    assert lines(capsys) == [{"text": "Ölaf", "score": 0.5, "start": 0, "end": 4}]
    path = tmp_path / "context.txt"
    path.write_text("", "utf-8")
    assert main(["answer", "Who?", "--file", str(path), "--allow-no-answer"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["0.5000", "0", "0", "(no", "answer)"]


def test_answer_needs_one_context(server: FakeServer, fails: Any, tmp_path: Path) -> None:
    assert fails("answer", "Who?")[0] == 2
    assert fails("answer", "Who?", "x", "--file", "y")[0] == 2
    code, error = fails("answer", "Who?", "--file", str(tmp_path / "none.txt"))
    assert (code, "none.txt" in error) == (1, True)
    (tmp_path / "latin.txt").write_bytes(b"\xff")
    code, error = fails("answer", "Who?", "--file", str(tmp_path / "latin.txt"))
    assert (code, "not valid Unicode" in error) == (1, True)


def test_a_file_and_standard_input_give_the_same_context(server: FakeServer, stdin: Any, tmp_path: Path) -> None:
    data = b"one\r\ntwo\n"
    (tmp_path / "context.txt").write_bytes(data)
    stdin(data)
    for source in (["-"], ["--file", str(tmp_path / "context.txt")]):
        assert main(["answer", "Who?", *source]) == 0
        assert list(server.seen.requests[-1].inputs.second_texts) == ["one\r\ntwo\n"]


def test_choose(server: FakeServer, capsys: Capture) -> None:
    assert main(["choose", "The fox", "jumps", "sleeps", "sings"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["PROBABILITY", "CHOICE"]
    assert [row.split() for row in rows] == [["0.5000", "jumps"], ["0.2500", "sleeps"], ["0.2500", "sings"]]
    assert main(["choose", "The fox", "jumps", "--json"]) == 0
    assert lines(capsys) == [{"prompt": "The fox", "choices": [{"choice": "jumps", "probability": 1.0}]}]


def test_next_sentence(server: FakeServer, capsys: Capture) -> None:
    probability = next_probability("pair:One.|Two.")
    assert main(["next-sentence", "One.", "Two."]) == 0
    assert capsys.readouterr().out == f"{probability:.4f}\n"
    assert main(["next-sentence", "One.", "Two.", "--json"]) == 0
    assert lines(capsys) == [{"first": "One.", "second": "Two.", "probability": probability}]


@pytest.mark.parametrize("name", COMMANDS)
def test_common_options_and_failures(server: FakeServer, fails: Any, capsys: Capture, name: str) -> None:
    assert main([name, *COMMANDS[name], "--model", "tiny", "--timeout", "300", "--max-length", "20"]) == 0
    request = server.seen.requests[-1]
    length = request.options.max_length if name == "answer" else request.options.truncation.max_length
    assert (request.options.model, length) == ("tiny", 20)
    assert 200 < (server.seen.deadlines[-1] or 0) < 301
    capsys.readouterr()
    server.does.failures.append(status(Code.FAILED_PRECONDITION, "it has fill_mask", "HEAD_NOT_AVAILABLE"))
    assert fails(name, *COMMANDS[name]) == (1, "bertstream: error: it has fill_mask\n")
    assert fails(name)[0] == 2
    assert fails(name, *COMMANDS[name], "--max-length", "0")[0] == 2


def test_help(capsys: Capture) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert "examples:" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    headings = ("the server:", "tokens and vectors:", "inside the model:", "task heads:")
    places = [out.index(f"\n  {heading}\n") for heading in headings]
    assert places == sorted(places)
    assert all(out.index("task heads:") < out.index(f"\n    {name} ") for name in COMMANDS)
