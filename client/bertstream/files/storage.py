"""Where files lie: on this machine, or wherever fsspec reaches, such as s3://."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import posixpath
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from bertstream.files.errors import WrongUse

SCHEME = "://"
MAGIC = frozenset("*?[")
CHANGED = ("ETag", "etag", "LastModified", "mtime", "created")
"""What stores call the tokens and times by which a change is seen."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Storage(Protocol):
    """Files by their paths, with / between folders. A file that is written appears only when it is complete."""

    is_local: bool

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading, anywhere in it. Raises FileNotFoundError."""

    def stamp(self, path: str) -> dict[str, Any] | None:
        """Return what tells whether a file was changed, such as its size; None if there is no such file."""

    def size(self, path: str) -> int:
        """Return the bytes of a file."""

    def is_folder(self, path: str) -> bool:
        """Return whether there is such a folder."""

    def real(self, path: str) -> str:
        """Return the path that stands for all ways to write it, such as over links."""

    def is_same(self, path: str, other: str) -> bool:
        """Return whether both are one file or folder, which need not be there."""

    def is_other(self, path: str) -> bool:
        """Return whether there is something that is neither a file nor a folder, such as a pipe."""

    def find(self, folder: str) -> list[str]:
        """Return all files in a folder and below it, in the order of their paths; none if there is no such folder.

        Raises OSError for a folder that cannot be read.
        """

    def glob(self, pattern: str) -> list[str]:
        """Return all files and folders that match a pattern, in the order of their paths; `**` is any folders.

        Raises OSError for a folder that cannot be read.
        """

    def replace(self, path: str, half_in: str = "") -> Any:
        """Return a context with a new file, which takes the place of an old one when the context ends well.

        Until then it has another name, in the folder `half_in`, or in its own.
        """

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it, if it is there."""

    def lock(self, folder: str) -> Any:
        """Return a context in which no other process has this folder. Raises BlockingIOError if another has it."""


class LocalStorage:
    """The files of this machine."""

    is_local = True

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading."""
        return Path(path).open("rb")

    def stamp(self, path: str) -> dict[str, Any] | None:
        """Return the size and the time of the last change."""
        with suppress(FileNotFoundError, NotADirectoryError):
            found = Path(path).stat()
            return {"bytes": found.st_size, "changed": found.st_mtime_ns}
        return None

    def size(self, path: str) -> int:
        """Return the bytes of a file."""
        return Path(path).stat().st_size

    def is_folder(self, path: str) -> bool:
        """Return whether there is such a folder."""
        return Path(path).is_dir()

    def real(self, path: str) -> str:
        """Return the whole path, without links."""
        return Path(os.path.realpath(path)).as_posix()

    def is_same(self, path: str, other: str) -> bool:
        """Return whether both are one file, by links of any kind, or would be."""
        with suppress(OSError):
            return Path(path).samefile(other)
        return self.real(path) == self.real(other)

    def is_other(self, path: str) -> bool:
        """Return whether there is a pipe, a socket or a device."""
        with suppress(OSError):
            mode = Path(path).stat().st_mode
            return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        return False

    def find(self, folder: str) -> list[str]:
        """Return all files below a folder, without pipes and the like."""
        found, seen = list[str](), set[str]()
        for root, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
            if (real := os.path.realpath(root)) in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add(real)
            found.extend(Path(root, name).as_posix() for name in names)
        return sorted(path for path in found if not self.is_other(path))

    def glob(self, pattern: str) -> list[str]:
        """Return what matches a pattern, without pipes and the like."""
        for folder in self._searched(pattern):  # since glob leaves out silently what it cannot read
            os.scandir(folder).close()
            Path(folder, ".").stat()
        return sorted(path for path in _matching(pattern) if not self.is_other(path))

    def _searched(self, pattern: str) -> Iterator[str]:
        """Yield the folders in which the pattern looks for names."""
        parts = pattern.split("/")
        for place in range(len(parts)):
            if is_pattern("/".join(parts[: place + 1])):
                start = "/".join(parts[:place]) or ("/" if place else ".")
                yield from filter(os.path.isdir, _matching(start) if is_pattern(start) else [start])
                if parts[place] == "**":
                    yield from _matching("/".join([*parts[: place + 1], ""]))

    @contextmanager
    def replace(self, path: str, half_in: str = "") -> Iterator[IO[bytes]]:
        """Write a file under another name, and rename it once its bytes are on the disk."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        half = Path(half_in or place.parent, f".{place.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            with half.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            half.replace(place)
        except OSError as error:
            if error.errno in FULL and error.filename is None:  # as of all writes to a file that is open
                error.filename = path
            raise
        finally:
            half.unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """Remove a file or a folder."""
        if Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)

    @contextmanager
    def lock(self, folder: str) -> Iterator[None]:
        """Lock a folder, which is made if need be. The lock ends with the process, however that ends."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        with Path(folder, "lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


class RemoteStorage:
    """Files that fsspec reaches. An object appears when its last byte was sent; nothing is locked."""

    is_local = False

    def __init__(self, scheme: str) -> None:
        try:
            import fsspec
        except ImportError:
            raise WrongUse(f"{scheme}{SCHEME} needs fsspec: pip install fsspec") from None
        try:
            self._files = fsspec.filesystem(scheme)
        except (ImportError, ValueError) as error:  # which say which package is missing, or that there is none
            raise WrongUse(f"{scheme}{SCHEME}: {error}") from None
        self._scheme = scheme

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading."""
        opened: IO[bytes] = self._files.open(path, "rb")
        return opened

    def stamp(self, path: str) -> dict[str, Any] | None:
        """Return the size, and whichever of ETag and times the store tells."""
        try:
            found = self._files.info(path)
        except FileNotFoundError:
            return None
        return {"bytes": found["size"], **{name: str(found[name]) for name in CHANGED if name in found}}

    def size(self, path: str) -> int:
        """Return the bytes of a file."""
        return int(self._files.info(path)["size"])

    def is_folder(self, path: str) -> bool:
        """Return whether there is anything below this path."""
        return bool(self._files.isdir(path))

    def real(self, path: str) -> str:
        """Return the path as the store has it, without needless parts."""
        scheme, _, rest = self._named(str(self._files._strip_protocol(path))).partition(SCHEME)
        return f"{scheme}{SCHEME}{posixpath.normpath(rest)}"

    def is_same(self, path: str, other: str) -> bool:
        """Return whether both are one object."""
        return self.real(path) == self.real(other)

    def is_other(self, path: str) -> bool:
        """Return False: a store has objects alone."""
        return False

    def find(self, folder: str) -> list[str]:
        """Return all files below a folder."""
        return sorted(self._named(path) for path in self._files.find(folder))

    def glob(self, pattern: str) -> list[str]:
        """Return what matches a pattern."""
        return sorted(self._named(path) for path in self._files.glob(pattern))

    @contextmanager
    def replace(self, path: str, half_in: str = "") -> Iterator[IO[bytes]]:
        """Write an object, which the store has from the moment in which it is complete."""
        with suppress(
            OSError, NotImplementedError
        ):  # where there are folders they are needed, and elsewhere not allowed
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        with self._files.transaction, self._files.open(path, "wb") as file:
            yield file

    def remove(self, path: str) -> None:
        """Remove an object or a folder."""
        with suppress(FileNotFoundError):
            self._files.rm(path, recursive=True)

    @contextmanager
    def lock(self, folder: str) -> Iterator[None]:
        """Lock nothing: an object store has no locks."""
        yield

    def _named(self, path: str) -> str:
        return path if SCHEME in path else f"{self._scheme}{SCHEME}{path.lstrip('/')}"


LOCAL = LocalStorage()
_REMOTE: dict[str, RemoteStorage] = {}


def storage_of(path: str) -> Storage:
    """Return the storage of a path. Raises ValueError if it needs a package that is not installed."""
    scheme, found, _ = path.partition(SCHEME)
    if not found:
        return LOCAL
    if scheme == "file":
        raise WrongUse(f"{path}: give files of this machine by their paths, without file://")
    if scheme not in _REMOTE:
        _REMOTE[scheme] = RemoteStorage(scheme)
    return _REMOTE[scheme]


def is_pattern(path: str) -> bool:
    """Return whether a path has wildcards."""
    return bool(MAGIC & set(path))


def _matching(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
