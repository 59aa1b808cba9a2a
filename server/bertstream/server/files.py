"""Reads what people write for the server, some of it again while it runs: regular files that are not too large."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 4 << 20  # a kilobyte for each key that there may be, and many times what a system's authorities need


def read_regular(path: Path) -> tuple[bytes, int]:
    """Return the contents of a regular file, and its mode.

    A pipe would be waited for, and a device may never end: the server reads neither. Raises OSError, also where there
    are more than MOST_BYTES.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MOST_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES:,} bytes")
    return data, mode
