"""A progress bar on a terminal, and a line for each step elsewhere, while models compile and load."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class ProgressDisplay:
    """Shows the "progress" events of the compiling process on stderr."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=console, transient=True)
        self._tasks: dict[str, Any] = {}
        self._said = ""

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, event: dict[str, Any]) -> None:
        """Shows one event: source, step, done, total."""
        text = f"{event['source']}: {event['step']}"
        if self._bar is None:
            self.say(text)
            return
        source = event["source"]
        if source not in self._tasks:
            self._tasks[source] = self._bar.add_task(text)
        self._bar.update(self._tasks[source], description=text, completed=event["done"], total=event["total"])

    def say(self, text: str) -> None:
        """A line, once."""
        if self._bar is None and text != self._said:
            print(text, file=sys.stderr, flush=True)
        self._said = text
