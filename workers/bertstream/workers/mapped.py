"""Make files that processes map, with all of their blocks.

Where a disk fills up, the first write to a mapped page without a block ends the process by SIGBUS.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # by the file system
_PIECE_BYTES = 1 << 20


def reserve(fd: int, size: int, path: Path) -> None:
    """Make an open file this many bytes long, each of them on the disk; what it has already stays, new ones are zeros.

    path: of the file, for errors. Several processes may do this at once: nobody sees the whole length before all is
    there. Raises OSError, in words where there is no room.
    """
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        if (present := os.fstat(fd).st_size) < size:
            _allocate(fd, present, size)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OSError(f"{path.parent}, below TMPDIR, has no room for {size:,} bytes more ({error.strerror})") from error
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def map_file(path: Path, size: int) -> mmap.mmap:
    """Return a new file of zeros, mapped for reading and writing; one that was there is emptied.

    size: in bytes. Raises OSError.
    """
    with path.open("wb+") as file:
        reserve(file.fileno(), size, path)
        return mmap.mmap(file.fileno(), size)


def _allocate(fd: int, start: int, end: int) -> None:
    try:
        os.posix_fallocate(fd, start, end - start)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        _write_zeros(fd, start, end)
    except AttributeError:  # macOS has no such function
        _write_zeros(fd, start, end)


def _write_zeros(fd: int, start: int, end: int) -> None:
    while start < end:
        start += os.pwrite(fd, bytes(min(_PIECE_BYTES, end - start)), start)
