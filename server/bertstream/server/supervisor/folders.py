"""The folder of a server's sockets, and the removal of those whose server was killed with all of its processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bertstream.server.config import ConfigError
from bertstream.workers.trust.ownership import TrustError, check_way

_PREFIX = "bertstream-"
_LOCK = "lock"  # a file in the folder, which its server holds locked until it ends, however it ends
_ABANDONED_SECONDS = 60.0  # between making a folder and locking it, nobody takes as long
_PATH_BYTES = 107  # of a Unix socket, see unix(7)
FRONTENDS_NAME, WORKERS_NAME = "frontend-255.socket", "9999-1023.socket"  # the longest of each


@contextlib.contextmanager
def private_folder(longest_name: str = FRONTENDS_NAME) -> Iterator[Path]:
    """Yield a folder for sockets that is this user's alone, and is removed after the body.

    longest_name: that a socket there may get.
    Raises ConfigError where others could replace it, or its path is too long for sockets.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        _check(folder, longest_name)
        with _held(folder):
            sweep(folder.parent)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove this user's folders of sockets in `place` whose servers have ended without removing them."""
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _check(folder: Path, longest_name: str) -> None:
    try:
        check_way(folder)
    except TrustError as error:
        raise ConfigError(f"the folder for sockets (TMPDIR): {error}") from error
    if (excess := len(os.fsencode(folder / longest_name)) - _PATH_BYTES) > 0:
        raise ConfigError(
            f"the folder for sockets (TMPDIR): {folder.parent} is too long for the paths of Unix sockets, by "
            f"{excess} bytes: choose another"
        )


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("x") as file:
        with contextlib.suppress(OSError):  # where nothing can be locked, nobody sweeps either
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _is_abandoned(folder: Path) -> bool:
    """Tell whether a server of this user made the folder, and nobody holds it any more. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(opened)
        mine = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == stat.S_IRWXU
        if not mine or time.time() - status.st_mtime < _ABANDONED_SECONDS:
            return False
        lock = os.open(_LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=opened)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        finally:
            os.close(lock)
    finally:
        os.close(opened)
