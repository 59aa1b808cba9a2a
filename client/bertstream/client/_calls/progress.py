"""A line on standard error that shows how far a stream has come."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from typing import Literal, TextIO, TypeAlias

from bertstream.client._calls.bars import Bar, bar_maker, in_notebook
from bertstream.client._calls.stream import StreamCounts
from bertstream.client._types import Progress

ProgressOption: TypeAlias = bool | Literal["bar"] | Callable[[Progress], object]
"""False for none; True for a line on standard error, or for a bar in a notebook; "bar" for a bar of tqdm anywhere, or a
line where tqdm is not installed; or a function that is called with a Progress five times a second and at the end."""

TERMINAL_SECONDS, PLAIN_SECONDS = 0.2, 10.0


class Reporter:
    """Reports the progress at most every `every_seconds`, and once at the end."""

    def __init__(
        self,
        report: Callable[[Progress], object] | None,
        total: int | None = None,
        every_seconds: float = TERMINAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[], object] = lambda: None,
    ) -> None:
        self._report, self._total, self._every, self._clock, self.end = report, total, every_seconds, clock, end
        self._start = self._last = clock()

    def update(self, counts: StreamCounts, finished: bool = False) -> None:
        """Report the progress, if it is time to."""
        if self._report is None:
            return
        now = self._clock()
        if finished or now - self._last >= self._every:
            self._last = now
            seconds = now - self._start
            self._report(Progress(counts.texts, counts.failed, counts.tokens, seconds, self._total, finished))


class ProgressLine:
    """Prints a Progress: on a terminal as one line that is drawn again and again, elsewhere as plain lines."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._is_open = file, False
        self.on_terminal = file.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, progress: Progress) -> None:
        line = progress_text(progress)
        if self.on_terminal:
            self._is_open = not progress.finished
            line = f"\r\x1b[K{line[: self._columns() - 1]}" + ("" if self._is_open else "\n")
        else:
            line += "\n"
        self._file.write(line)
        self._file.flush()

    def _columns(self) -> int:
        """Return how many columns the terminal has, since a line that wraps would scroll."""
        try:
            return os.get_terminal_size(self._file.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def end(self) -> None:
        """End the line, so that the next output, such as an error, starts on its own line."""
        if self._is_open:
            self._is_open = False
            self._file.write("\n")
            self._file.flush()


def progress_text(progress: Progress) -> str:
    """Return a line such as `12,345 of 50,000 texts (25 %) · 1,234 texts/s · 56,789 tokens/s · 0:10`."""
    total = f" of {progress.total:,}" if progress.total else ""
    share = f" ({100 * progress.texts // progress.total} %)" if progress.total else ""
    minutes, seconds = divmod(int(progress.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    elapsed = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    failed = f" · {progress.failed:,} failed" if progress.failed else ""
    speeds = f"{progress.texts_per_second:,.0f} texts/s · {progress.tokens_per_second:,.0f} tokens/s"
    return f"{progress.texts:,}{total} texts{share} · {speeds} · {elapsed}{failed}"


def check_progress(option: object) -> None:
    """Raise ValueError or TypeError for a `progress=` that is none."""
    if not (
        isinstance(option, bool) or option is None or callable(option) or (isinstance(option, str) and option == "bar")
    ):
        error = ValueError if isinstance(option, str) else TypeError
        raise error(f'progress must be True, False, "bar" or a function, not {option!r}')


def reporter(option: ProgressOption, texts: object) -> Reporter:
    """Return the Reporter for a caller's `progress=`."""
    total = len(texts) if hasattr(texts, "__len__") else None
    if (option == "bar" or (option is True and in_notebook())) and (make := bar_maker()) is not None:
        bar = Bar(make)
        return Reporter(bar, total, end=bar.end)
    if option is True or option == "bar":
        line = ProgressLine(sys.stderr or io.StringIO())  # there is none in a program without a console
        return Reporter(line, total, TERMINAL_SECONDS if line.on_terminal else PLAIN_SECONDS, end=line.end)
    return Reporter(option or None, total)
