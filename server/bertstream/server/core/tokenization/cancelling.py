"""Stops what tokenizes in a thread once nobody waits for it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import TypeVar

Made = TypeVar("Made")

_cancelled: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)


class Cancelled(Exception):
    """Nobody waits for what this thread is doing."""


def run(function: Callable[[], Made], cancelled: threading.Event) -> Made:
    """Run it so that `check` raises once `cancelled` is set."""

    def begin() -> Made:
        _cancelled.set(cancelled)
        return function()

    return copy_context().run(begin)


def check() -> None:
    """Raise Cancelled where `run` says so. Called between parts of the work that take some milliseconds."""
    event = _cancelled.get()
    if event is not None and event.is_set():
        raise Cancelled
