"""A progress bar on a terminal, and a line of the log for each step elsewhere, while models compile and load."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bertstream.workers.compile.compiling import CompileStep
from bertstream.workers.process import logs

log = logging.getLogger(__name__)


class ProgressDisplay:
    """Shows the steps of the compiling process on stderr."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        if not logs.structured():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._tasks: dict[str, Any] = {}
        self._last = ""

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, at: CompileStep) -> None:
        """Show the step that the compiler has reached."""
        text, source = f"{at.source}: {at.step}", at.source
        if self._bar is None:
            if text != self._last:
                log.info("%s", text, extra={"model": source, "step": at.step})
            self._last = text
            return
        if source not in self._tasks:
            self._tasks[source] = self._bar.add_task(text)
        self._bar.update(self._tasks[source], description=text, completed=at.done, total=at.total)
