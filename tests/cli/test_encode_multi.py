"""`bertstream encode-multi`, against a fake server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.cli import main
from tests.client.fake_encodings import HIDDEN, states
from tests.client.fake_server import FakeServer

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def vectors(*texts: str) -> list[list[list[float]]]:
    return [states(f"text:{text}").tolist() for text in texts]


def test_lines_in_a_pipe(server: FakeServer, capsys: Capture) -> None:
    assert main(["encode-multi", "a", "bc", "--kind", "query", "--prompt-name", "p", "--wire-type", "float16"]) == 0
    found = rows(capsys.readouterr().out)
    assert [row["id"] for row in found] == [0, 1]
    assert [row["vectors"] for row in found] == vectors("a", "bc")
    asked = server.seen.options
    assert asked is not None
    assert (list(asked.outputs), asked.text_kind, asked.prompt_name) == ([7], 1, "p")


def test_a_summary(capsys: Capture) -> None:
    assert main(["encode-multi", "abc", "--format", "summary"]) == 0
    title, about = capsys.readouterr().out.splitlines()
    first = " ".join(f"{value:+.4f}" for value in states("text:abc")[0][:6])
    assert (title, about) == ("0 abc", f"  [8, {HIDDEN}] float32: {first} …")


def test_an_archive_has_the_vectors_of_all_texts_end_to_end(capsys: Capture) -> None:
    assert main(["encode-multi", "a", "bad", "bc", "-o", "v.npz", "--keep-going", "--batch-size", "2"]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("bertstream: error: ")
    assert f"v.npz: 13 vectors of {HIDDEN} float32" in errors
    with np.load("v.npz") as found:
        assert (found["ids"].tolist(), found["offsets"].tolist()) == ([0, 2], [0, 6, 13])
        np.testing.assert_array_equal(found["vectors"], np.concatenate([states("text:a"), states("text:bc")]))
    assert main(["encode-multi", "bad", "-o", "w.jsonl", "--keep-going"]) == 1
    (row,) = rows(Path("w.jsonl").read_text())
    assert (row["id"], row["error"]["status"]) == (0, "INVALID_ARGUMENT")


def test_nothing_at_all(stdin: Any) -> None:
    stdin(b"")
    assert main(["encode-multi", "-", "-o", "v.npz"]) == 0
    with np.load("v.npz") as found:
        assert (found["ids"].size, found["offsets"].tolist(), len(found["vectors"])) == (0, [0], 0)


def test_files(capsys: Capture) -> None:
    Path("in.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": "bad"}\n')
    assert main(["encode-multi", "in.jsonl", "-o", "v.jsonl", "--keep", "id", "--kind", "document"]) == 4
    assert rows(Path("v.jsonl").read_text()) == [{"id": 1, "vectors": vectors("a")[0]}, {"id": 2, "vectors": None}]
    assert rows(Path("v.jsonl.failed.jsonl").read_text())[0]["row"] == 1


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["a text", "-o", "v.npy"], "v.npy: give a name that ends in .jsonl or .npz"),
        (["in.jsonl", "--keep", "id", "-o", "v.npy"], ".npy holds one vector a row, not one for each token"),
        (["a", "--format", "npz"], "--format npz needs --output FILE"),
        (["a", "--vectors", "binary"], "--vectors goes with --output FILE"),
        (["a", "--kind", "paragraph"], "argument --kind: invalid choice"),
        (["a", "--pooling", "mean"], "unrecognized arguments: --pooling mean"),
    ],
)
def test_wrong_usage(fails: Callable[..., tuple[int, str]], argv: list[str], told: str) -> None:
    Path("in.jsonl").write_text('{"id": 1, "text": "a"}\n')
    code, error = fails("encode-multi", *argv)
    assert (code, told in error) == (2, True), error
