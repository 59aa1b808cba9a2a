"""Ctrl-C that cannot get lost, although Python drops a KeyboardInterrupt raised within a callback or a finaliser."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

INTERRUPTED = 130
LAST_RESORT_SECONDS = 5.0

half_files: set[Path] = set()
"""Incomplete files, which must be removed when the process ends."""
_seen = threading.Event()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt in the body, and end the process soon after if that does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _seen.clear()


def check() -> None:
    """Raise KeyboardInterrupt if one was lost."""
    if _seen.is_set():
        raise KeyboardInterrupt


def _interrupted(*_: object) -> None:
    if not _seen.is_set():
        _seen.set()
        threading.Thread(target=_last_resort, daemon=True).start()
    raise KeyboardInterrupt


def _last_resort() -> None:
    threading.Event().wait(LAST_RESORT_SECONDS)
    if _seen.is_set():
        for path in tuple(half_files):
            with suppress(OSError):
                path.unlink()
        os._exit(INTERRUPTED)
