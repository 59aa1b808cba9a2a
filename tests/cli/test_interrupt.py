"""A KeyboardInterrupt that Python drops is raised again, and a process that hangs still ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from bertstream.cli._interrupt import check, interruptible


def swallowed() -> None:
    with suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1_000_000):  # until the handler has run
            pass


def test_one_that_was_dropped_is_raised_at_the_next_check() -> None:
    with interruptible():
        check()
        swallowed()
        with pytest.raises(KeyboardInterrupt):
            check()


def test_the_handler_of_before_is_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
        swallowed()
    assert signal.getsignal(signal.SIGINT) is before
    check()


def test_a_process_that_does_not_end_is_ended_and_its_half_files_go(tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.write_text("half")
    program = f"""
        import os, signal, threading
        from contextlib import suppress
        from pathlib import Path
        from bertstream.cli import _interrupt
        _interrupt.LAST_RESORT_SECONDS = 0.1
        _interrupt.half_files.add(Path({str(half)!r}))
        with _interrupt.interruptible():
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                threading.Event().wait(20)
            threading.Event().wait(20)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=False)
    assert done.returncode == 130
    assert not half.exists()
