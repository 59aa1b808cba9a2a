"""Tables and errors have colours on terminals alone, and tables as many columns as the terminal has."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from bertstream.cli import main
from bertstream.cli._table import table, width
from bertstream.cli._tables import coloured_table, shown_table
from tests.client.fake_server import Code, FakeServer, status

HEADER, ROWS = ("NAME", "SIZE"), [("a [red]世[/red]\x1b[1m", "1"), ("b" * 30, "22")]
ESCAPES = re.compile(r"\x1b\[[\d;]*m")


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have both streams be terminals. A fixture cannot: the streams of a test are made after it."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)


def test_a_table_with_colours() -> None:
    drawn = coloured_table(HEADER, ROWS, right=(1,), columns=30)
    lines = ESCAPES.sub("", drawn).splitlines()
    assert ESCAPES.search(drawn) is not None
    assert lines[1].split() == ["a", "[red]世[/red]\\x1b[1m", "1"]  # no markup, and no escapes of the text's own
    assert max(map(width, lines)) <= 30
    assert len(lines) == 4  # the long cell takes two
    assert lines[2].endswith("  22")


def drawn_words(columns: int, spare: tuple[int, ...]) -> list[list[str]]:
    rows = [("all-MiniLM-L6-v2", "384", "mean, normalized", "a, b")]
    drawn = coloured_table(("NAME", "HIDDEN", "POOLING", "HEADS"), rows, (1,), columns, spare)
    lines = ESCAPES.sub("", drawn).splitlines()
    assert max(map(width, lines)) <= columns
    return [line.split() for line in lines]


def test_a_narrow_table_has_whole_names() -> None:
    """Cells go on between words, and if that does not do, columns are left out."""
    header, row = ["NAME", "HIDDEN", "POOLING", "HEADS"], ["all-MiniLM-L6-v2", "384", "mean,", "normalized", "a,", "b"]
    assert drawn_words(60, (1, 2)) == [header, row]
    assert drawn_words(45, (1, 2)) == [header, ["all-MiniLM-L6-v2", "384", "mean,", "a,", "b"], ["normalized"]]
    assert drawn_words(40, (1, 2))[0] == ["NAME", "POOLING", "HEADS"]
    assert drawn_words(30, (1, 2)) == [["NAME", "HEADS"], ["all-MiniLM-L6-v2", "a,", "b"]]
    assert "".join(line[0] for line in drawn_words(14, (1, 2))[1:]) == "all-MiniLM-L6-v2"


def test_no_colours_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    assert ESCAPES.search(shown_table(HEADER, ROWS)) is not None
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown_table(HEADER, ROWS) == table(HEADER, ROWS)


def test_no_colours_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert shown_table(HEADER, ROWS) == table(HEADER, ROWS)


def test_models_on_a_terminal(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_terminal(monkeypatch)
    assert main(["models", "tiny"]) == 0
    printed = capsys.readouterr().out
    assert ESCAPES.search(printed) is not None
    assert ["name", "tiny"] in [line.split() for line in ESCAPES.sub("", printed).splitlines()]


def test_errors_on_a_terminal(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_terminal(monkeypatch)
    server.does.failures.append(status(Code.INVALID_ARGUMENT, "wrong"))
    assert main(["tokenize", "a"]) == 1
    assert capsys.readouterr().err == "bertstream: \x1b[31merror:\x1b[0m wrong\n"


@pytest.mark.parametrize(
    ("code", "step"),
    [
        (Code.UNAUTHENTICATED, "; give a key by BERTSTREAM_API_KEY or --api-key"),
        (Code.DEADLINE_EXCEEDED, "; give it longer with --timeout SECONDS, or ask for less at once"),
        (Code.INVALID_ARGUMENT, ""),
    ],
)
def test_errors_name_the_next_step(server: FakeServer, fails: Any, code: Code, step: str) -> None:
    server.does.failures.append(status(code, "so it is"))
    assert fails("tokenize", "a") == (1, f"bertstream: error: so it is{step}\n")


def test_a_server_that_is_not_there(fails: Any) -> None:
    code, error = fails("models", "--address", "127.0.0.1:1")
    assert code == 3
    assert error.endswith("; start one with `bertstream serve`, or say --address; `bertstream doctor` tells more\n")
