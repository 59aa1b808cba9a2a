"""The progress of a stream as a bar of tqdm, in a terminal and in notebooks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from bertstream.client._types import Progress

BarMaker = Callable[..., Any]


class Bar:
    """Shows a Progress as a bar, which appears with the first report."""

    def __init__(self, make: BarMaker) -> None:
        self._make = make
        self._bar: Any = None

    def __call__(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = self._make(total=progress.total, unit="texts", unit_scale=True)
        failed = f", {progress.failed:,} failed" if progress.failed else ""
        self._bar.set_postfix_str(f"{progress.tokens_per_second:,.0f} tokens/s{failed}", refresh=False)
        self._bar.update(progress.texts - self._bar.n)
        if progress.finished:
            self.end()

    def end(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def bar_maker() -> BarMaker | None:
    """Return what makes a bar that fits where it is shown; None where tqdm is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:  # or a part of it that notebooks need
        return None
    made: BarMaker = tqdm
    return made


def in_notebook() -> bool:
    """Return whether a kernel of Jupyter runs this process, without importing it."""
    return "ipykernel" in sys.modules
