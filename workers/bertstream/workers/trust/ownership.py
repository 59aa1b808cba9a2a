"""Check who may write to a file or folder: nothing that others could have put there is run or believed.

As with ssh's StrictModes, all on the way from the root must belong to this user or root, with no one else allowed to
change it.
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
    """Return why others than this user and root could have written there, in words; "" where they could not.

    An access control list that lets others write counts too: it shows in the mode's bits for the group.
    """
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to the user {status.st_uid}, not to {os.geteuid()}, who runs this, or to root"
    if status.st_mode & _OTHERS_WRITE and not stat.S_ISLNK(status.st_mode):
        return f"may be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def check_way(folder: Path) -> Path:
    """Check `folder` and all folders above it, and return its path without symbolic links.

    Where everybody may write but remove only their own, such as in /tmp, what counts is the next folder below. Raises
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
    """Make a folder, and missing ones above it, in which only this user may write, whatever the umask.

    Raises TrustError where a symbolic link to nothing is in the way, and OSError.
    """
    for place in (*reversed(folder.parents), folder):
        if place.is_symlink() and not place.exists():
            raise TrustError(f"{place} is a symbolic link to nothing: remove it, or choose another folder")
        if not place.exists():
            place.mkdir(mode=FOLDER_MODE, exist_ok=True)
