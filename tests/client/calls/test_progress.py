"""The progress of a stream: when it is reported, and how it is drawn."""

from __future__ import annotations

import io
import os
import sys
import types
from typing import Any

import pytest

from bertstream.client import Progress
from bertstream.client._calls.bars import Bar
from bertstream.client._calls.progress import ProgressLine, Reporter, check_progress, progress_text, reporter
from bertstream.client._calls.stream import StreamCounts


def test_progress_is_reported_now_and_then() -> None:
    reports: list[Progress] = []
    times = iter([0.0, 0.1, 0.25, 0.3, 0.5])
    reporter = Reporter(reports.append, total=10, every_seconds=0.2, clock=lambda: next(times))
    for texts in range(3):
        reporter.update(StreamCounts(texts))
    reporter.update(StreamCounts(10, tokens=50), finished=True)
    assert [(report.texts, report.seconds) for report in reports] == [(1, 0.25), (10, 0.5)]
    assert reports[-1].texts_per_second == 20
    assert reports[-1].tokens_per_second == 100


def test_progress_text() -> None:
    progress = Progress(12_345, 2, 617_250, 3725.0, 50_000, False)
    assert progress_text(progress) == "12,345 of 50,000 texts (24 %) · 3 texts/s · 166 tokens/s · 1:02:05 · 2 failed"
    assert progress_text(Progress(0, 0, 0, 0.0, None, False)) == "0 texts · 0 texts/s · 0 tokens/s · 0:00"


@pytest.fixture(autouse=True)
def able_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


def test_a_line_fits_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    file.isatty, file.fileno = lambda: True, lambda: 2  # type: ignore[method-assign]
    monkeypatch.setattr("os.get_terminal_size", lambda _: os.terminal_size((40, 24)))
    ProgressLine(file)(Progress(12_345, 2, 617_250, 3725.0, 50_000, False))
    assert len(file.getvalue().removeprefix("\r\x1b[K")) == 39
    monkeypatch.setenv("TERM", "dumb")
    assert not ProgressLine(file).on_terminal


def test_without_standard_error_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    reporter(True, []).update(StreamCounts(), finished=True)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_line(terminal: bool) -> None:
    file = io.StringIO()
    file.isatty = lambda: terminal  # type: ignore[method-assign]
    line = ProgressLine(file)
    line(Progress(1, 0, 1, 1.0, None, False))
    line(Progress(2, 0, 2, 1.0, None, True))
    assert file.getvalue().count("\n") == (1 if terminal else 2)
    assert ("\r" in file.getvalue()) == terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_a_progress_line_is_left_when_the_stream_fails(terminal: bool) -> None:
    file = io.StringIO()
    file.isatty = lambda: terminal  # type: ignore[method-assign]
    line = ProgressLine(file)
    line.end()
    assert file.getvalue() == ""
    line(Progress(1, 0, 1, 1.0, None, False))
    line.end()
    line.end()
    assert file.getvalue().endswith("0:01\n")
    assert file.getvalue().count("\n") == 1


class RecordedBar:
    """A bar that records what it is told."""

    def __init__(self, **options: Any) -> None:
        self.options, self.n, self.closed, self.postfix = options, 0, False, ""

    def update(self, more: int) -> None:
        self.n += more

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.postfix = text

    def close(self) -> None:
        self.closed = True


def test_a_bar() -> None:
    made: list[RecordedBar] = []

    def make(**options: Any) -> RecordedBar:
        made.append(RecordedBar(**options))
        return made[-1]

    bar = Bar(make)
    bar.end()  # a stream that fails at once has none
    bar(Progress(10, 0, 50, 1.0, 30, False))
    bar(Progress(25, 1, 100, 2.0, 30, False))
    (shown,) = made
    assert (shown.options["total"], shown.n, shown.postfix, shown.closed) == (30, 25, "50 tokens/s, 1 failed", False)
    bar(Progress(30, 1, 120, 3.0, 30, True))
    assert (shown.n, shown.closed) == (30, True)


@pytest.mark.parametrize("notebook", [True, False])
def test_who_gets_a_bar(notebook: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    shown: dict[Any, str] = {}
    for option in ("bar", True):
        reporter(option, ["a", "b"]).update(StreamCounts(texts=2, tokens=8), finished=True)
        shown[option] = capsys.readouterr().err
    assert "2.00/2.00" in shown["bar"]
    assert ("2.00/2.00" if notebook else "2 of 2 texts") in shown[True]


def test_a_line_where_there_is_no_tqdm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    reporter("bar", ["a", "b"]).update(StreamCounts(texts=2, tokens=8), finished=True)
    assert "2 of 2 texts" in capsys.readouterr().err


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="progress must be True, False, \"bar\" or a function, not 'tqdm'"):
        check_progress("tqdm")
    with pytest.raises(TypeError, match='progress must be True, False, "bar" or a function, not 5'):
        check_progress(5)
