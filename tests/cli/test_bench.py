"""`bertstream bench`, against a fake server."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bertstream.cli import main
from bertstream.cli._measuring import LONGEST, SHORTEST, call_for_each, made_up
from tests.client.fake_server import FakeServer


def test_a_table(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--texts", "90", "--calls", "12", "--concurrency", "1,4", "--words", "3"]) == 0
    about, header, *rows = capsys.readouterr().out.splitlines()
    assert about.startswith("tiny on bertstream ")
    assert about.endswith(": float32, cpu, 2 workers")
    assert header.split()[:4] == ["WHAT", "TEXTS", "SECONDS", "TEXTS/S"]
    assert [row.split("  ")[0] for row in rows] == ["stream", "1 call at once", "4 calls at once"]
    assert rows[0].split()[1] == "90"
    assert rows[0].split()[-3:] == ["-", "-", "-"]


def test_json(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "tiny", "--texts", "10", "--calls", "5", "--concurrency", "2", "--words", "2", "--json"]
    assert main(["bench", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["device"], found["compute_type"]) == ("tiny", "cpu", "float32")
    stream, calls = found["results"]
    assert (stream["texts"], stream["concurrency"], stream["p99"]) == (10, 0, None)
    assert (calls["texts"], calls["concurrency"]) == (5, 2)
    assert 0 < calls["p50"] <= calls["p95"] <= calls["p99"] <= calls["seconds"]
    assert stream["tokens"] > 0
    assert calls["tokens"] > 0


def test_texts_from_standard_input_again_and_again(
    server: FakeServer, capsys: pytest.CaptureFixture[str], stdin: Callable[[bytes], None]
) -> None:
    stdin(b"one\ntwo\nthree\n")
    assert main(["bench", "-", "--texts", "7", "--calls", "4", "--concurrency", "1", "--json"]) == 0
    stream, calls = json.loads(capsys.readouterr().out)["results"]
    assert (stream["texts"], calls["texts"]) == (7, 4)


def test_misuse_is_one_line(
    server: FakeServer, fails: Callable[..., tuple[int, str]], stdin: Callable[[bytes], None]
) -> None:
    assert fails("bench", "--concurrency", "0")[0] == 2
    assert fails("bench", "--texts", "0")[0] == 2
    stdin(b"")
    assert fails("bench", "-") == (2, "bertstream: error: standard input has no texts\n")
    assert fails("bench", "--model", "none-such")[0] == 1


def test_made_up_texts_are_the_same_each_time() -> None:
    texts = made_up(500, 0, None)
    assert texts == made_up(500, 0, None) != made_up(500, 1, None)
    lengths = [len(text.split()) for text in texts]
    assert SHORTEST <= min(lengths) < max(lengths) <= LONGEST
    assert {len(text.split()) for text in made_up(20, 0, 7)} == {7}


@pytest.mark.parametrize("threads", [1, 3])
def test_each_text_is_taken_once(threads: int) -> None:
    texts = [str(number) for number in range(50)]
    assert sorted(call_for_each(float, texts, threads)) == [float(text) for text in texts]
