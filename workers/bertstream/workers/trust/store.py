"""Store sealed folders, which appear whole, and are put aside when they are no longer as they were sealed."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bertstream.workers.trust.ownership import TrustError, check_way, make_folder
from bertstream.workers.trust.seal import Sealed, SealError, seal

log = logging.getLogger(__name__)

# Longer than the largest checkpoint takes on the slowest disk: what is older was left by a process that was killed.
ABANDONED_SECONDS = 3600.0
_ASIDE = ".aside."  # prefix of a folder that is not as it was sealed


@contextlib.contextmanager
def new(place: Path) -> Iterator[Path]:
    """Yield a folder to write to, which appears at `place`, sealed and whole, once the body has ended without an error.

    If another process has put a folder with the same content there meanwhile, that one stays. Raises TrustError where
    others may write there.
    """
    make_folder(place.parent)
    check_way(place.parent)
    sweep(place.parent)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        yield folder
        seal(folder)
        publish(folder, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, place: Path) -> None:
    """Rename a sealed folder to `place`, so that it appears whole, even after a power cut."""
    for path in (*folder.iterdir(), folder):
        _sync(path)
    try:
        folder.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        # Another process was first, with the same content.
    _sync(place.parent)


def is_sound(place: Path) -> bool:
    """Return whether a sealed folder is there, all of it as it was sealed.

    Anything else that is there is put aside, with a line in the log, so that it can be made anew. Raises TrustError
    where others may write above it, or it cannot be put aside.
    """
    if not os.path.lexists(place):
        return False
    try:
        with Sealed.open(place) as sealed:
            sealed.check()
    except SealError as error:
        put_aside(place, str(error))
        return False
    return True


def put_aside(place: Path, why: str) -> None:
    """Rename a folder so that nobody uses it; a sweep an hour later or more removes it. Raises TrustError."""
    aside = place.with_name(f"{_ASIDE}{place.name}")
    _remove(aside)  # one of each name at most
    try:
        place.rename(aside)
    except FileNotFoundError:  # another process was first
        return
    except OSError as error:
        raise TrustError(f"{why}, and it cannot be put aside ({error.strerror}): remove {place}") from error
    with contextlib.suppress(OSError):  # it belongs to another user
        os.utime(aside, follow_symlinks=False)
    log.warning("%s; it is not used but put aside as %s, and made anew", why, aside.name)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder of sealed ones, and what was put aside."""
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > ABANDONED_SECONDS:
                _remove(path)


def remove_unfinished(place: Path) -> None:
    """Remove what killed processes left half-written of what belongs at `place`, while nobody else may write it."""
    for path in place.parent.glob(f".{glob.escape(place.name)}.*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid():
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
