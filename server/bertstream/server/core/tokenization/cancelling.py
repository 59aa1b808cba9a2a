"""Stops tokenization in a thread once nobody waits for its result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import TypeVar

Made = TypeVar("Made")

_cancelled: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)


class Cancelled(Exception):
    """Nobody waits for the result of this thread's work."""


def run(function: Callable[[], Made], cancelled: threading.Event) -> Made:
    """Run the function so that `check`, called in it, raises Cancelled once `cancelled` is set."""

    def begin() -> Made:
        _cancelled.set(cancelled)
        return function()

    return copy_context().run(begin)


def check() -> None:
    """Raise Cancelled where nobody waits any more; called between parts of work that take some milliseconds."""
    event = _cancelled.get()
    if event is not None and event.is_set():
        raise Cancelled
