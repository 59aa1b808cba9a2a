"""Who may write to a file or folder: nothing that others could have put somewhere is run or believed.

As ssh does with its StrictModes: all on the way from the root is this user's or root's, and nobody else's to change.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
FOLDER_MODE, FILE_MODE = 0o755, 0o644


class TrustError(Exception):
    """A file or folder cannot be trusted; the message is one line that says which, why, and what to do."""


def foreign(status: os.stat_result) -> str:
    """Say whether others than this user and root could have written there: why, in words, or "" where they could not.

    An access control list that lets others write counts too: it shows in the mode's bits for the group.
    """
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to the user {status.st_uid}, not to {os.geteuid()}, who runs this, or to root"
    if status.st_mode & _OTHERS_WRITE and not stat.S_ISLNK(status.st_mode):
        return f"may be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def check_way(folder: Path) -> Path:
    """Check `folder` and all folders above it, and return its path without symbolic links.

    In one where everybody may write but remove only what is their own, such as /tmp, the next one counts. Raises
    TrustError, and OSError where there is no such folder.
    """
    way = folder.resolve(strict=True)
    for place in (*reversed(way.parents), way):
        status = place.stat()
        sticky = stat.S_ISVTX if status.st_uid in (0, os.geteuid()) else 0
        if not status.st_mode & sticky and (why := foreign(status)):
            raise TrustError(f"{place} {why}, so nothing in it can be trusted: {_advice(status, place)}")
    return way


def _advice(status: os.stat_result, place: Path) -> str:
    if status.st_uid not in (0, os.geteuid()):
        return "choose another folder"
    return f'run "chmod go-w {place}", or choose another folder'


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, in which this user alone may write, whatever the umask."""
    for place in (*reversed(folder.parents), folder):
        if not place.exists():
            place.mkdir(mode=FOLDER_MODE, exist_ok=True)
