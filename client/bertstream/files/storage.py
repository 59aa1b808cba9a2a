"""Where files lie: on this machine, or wherever fsspec reaches, such as s3://."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

SCHEME = "://"
MAGIC = frozenset("*?[")
CHANGED = ("ETag", "etag", "LastModified", "mtime", "created")
"""What stores call the tokens and times by which a change is seen."""


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

    def find(self, folder: str) -> list[str]:
        """Return all files in a folder and below it, in the order of their paths."""

    def glob(self, pattern: str) -> list[str]:
        """Return all files and folders that match a pattern, in the order of their paths; `**` is any folders."""

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

    def find(self, folder: str) -> list[str]:
        """Return all files below a folder."""
        found, seen = list[str](), set[str]()
        for root, folders, names in os.walk(folder, followlinks=True):
            if (real := os.path.realpath(root)) in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add(real)
            found.extend(Path(root, name).as_posix() for name in names)
        return sorted(found)

    def glob(self, pattern: str) -> list[str]:
        """Return what matches a pattern."""
        return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern

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
            raise ValueError(f"{scheme}{SCHEME} needs fsspec: pip install fsspec") from None
        try:
            self._files = fsspec.filesystem(scheme)
        except (ImportError, ValueError) as error:  # which say which package is missing, or that there is none
            raise ValueError(f"{scheme}{SCHEME}: {error}") from None
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
        raise ValueError(f"{path}: give files of this machine by their paths, without file://")
    if scheme not in _REMOTE:
        _REMOTE[scheme] = RemoteStorage(scheme)
    return _REMOTE[scheme]


def is_pattern(path: str) -> bool:
    """Return whether a path has wildcards."""
    return bool(MAGIC & set(path))
