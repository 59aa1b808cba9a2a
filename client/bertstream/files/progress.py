"""How far a run over files has come, and the line or bar that shows it."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO, TypeAlias

BAR_CELLS = 24
TERMINAL_SECONDS, PLAIN_SECONDS = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How far a run over files has come."""

    rows: int
    """Rows with an answer, failed ones included, and those of an earlier run that was stopped."""
    failed: int
    """Rows that failed."""
    resumed: int
    """Rows that an earlier run has done."""
    share: float
    """How much of the input is answered, from 0 to 1; 0 where that cannot be told, as of standard input."""
    seconds: float
    """Seconds since the start of this run."""
    seconds_left: float | None
    """About how many more it takes; None while that cannot be told."""
    finished: bool
    """True for the last report."""

    @property
    def rows_per_second(self) -> float:
        """Rows per second, over the whole time of this run."""
        return (self.rows - self.resumed) / self.seconds if self.seconds else 0.0


FileProgressOption: TypeAlias = bool | Callable[[FileProgress], object]
"""False for none; True for a bar on standard error, or a line each ten seconds where that is no terminal; or a function
that is called with a FileProgress five times a second and at the end."""


def seconds_left(seconds: float, begun: float, share: float) -> float | None:
    """Return about how long the rest takes, if `seconds` went by since the share of what is done was `begun`."""
    done = share - begun
    return seconds * (1.0 - share) / done if done > 0.001 and share < 1.0 else None


def is_drawn_on(file: TextIO) -> bool:
    """Return whether a line of this file can be drawn again and again: on a terminal that is not a dumb one."""
    return file.isatty() and os.environ.get("TERM") != "dumb"


def drawn_line(line: str, file: TextIO) -> str:
    """Return what draws a line in place of the last one, cut to the terminal: one that wraps would scroll."""
    return f"\r\x1b[K{line[: columns_of(file) - 1]}"


def columns_of(file: TextIO) -> int:
    """Return how many columns a terminal has; 80 where it does not say."""
    try:
        return os.get_terminal_size(file.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def progress_text(progress: FileProgress, bar: bool) -> str:
    """Return a line such as `[#####...] 25 % · 12,345 rows · 1,234 rows/s · 0:10 · 0:30 left · 3 failed`."""
    parts = [f"{progress.rows:,} rows", f"{progress.rows_per_second:,.0f} rows/s", clock(progress.seconds)]
    if progress.share:
        percent = f"{int(100 * progress.share)} %"
        parts.insert(0, f"{_bar(progress.share)} {percent}" if bar else percent)
    if progress.seconds_left is not None and not progress.finished:
        parts.append(f"{clock(progress.seconds_left)} left")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    return " · ".join(parts)


def _bar(share: float) -> str:
    full = int(BAR_CELLS * share)
    return f"[{'#' * full}{'.' * (BAR_CELLS - full)}]"


def clock(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Shown:
    """Reports the progress at most every so often, and once at the end."""

    def __init__(
        self, option: FileProgressOption, file: TextIO | None = None, time_of: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file or sys.stderr or io.StringIO()  # there is none in a program without a console
        self._terminal = is_drawn_on(self._file)
        self._report = self._print if option is True else option or None
        self._every = PLAIN_SECONDS if option is True and not self._terminal else TERMINAL_SECONDS
        self._time_of, self._last, self._is_open = time_of, time_of(), False

    def update(self, progress: Callable[[], FileProgress], finished: bool = False) -> None:
        """Report the progress, if it is time to."""
        if self._report is None:
            return
        now = self._time_of()
        if finished or now - self._last >= self._every:
            self._last = now
            self._report(progress())

    def end(self) -> None:
        """End the line, so that the next output, such as an error, starts on its own."""
        if self._is_open:
            self._is_open = False
            self._file.write("\n")
            self._file.flush()

    def _print(self, progress: FileProgress) -> None:
        line = progress_text(progress, bar=self._terminal)
        if self._terminal and len(line) >= columns_of(self._file):
            line = progress_text(progress, bar=False)
        self._file.write(drawn_line(line, self._file) if self._terminal else f"{line}\n")
        self._file.flush()
        self._is_open = self._terminal
        if progress.finished:
            self.end()

    def note(self, line: str) -> None:
        """Print a line beside the progress, if that is printed."""
        if self._report == self._print:
            self.end()
            self._file.write(f"{line}\n")
            self._file.flush()
