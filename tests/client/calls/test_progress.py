"""The progress of a stream: when it is reported, and how it is drawn."""

from __future__ import annotations

import io

import pytest

from bertstream.client import Progress
from bertstream.client._calls.progress import ProgressLine, Reporter, progress_text
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
