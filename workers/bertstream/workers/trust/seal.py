"""Seal folders that are written once and then only read, each with a list of what is in it.

    <folder>/manifest: two lines
        {"format": 1, "files": {name: {"bytes": …, "modified_ns": …, "sha256": [of each 8 MiB]}}}
        the SHA-256 of the first line

Against people who would plant something, the guard is who may write there (ownership.py): whoever could change a file
could change the list too. The hashes guard against faulty disks, incomplete copies and mistakes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from bertstream.workers.trust.ownership import FILE_MODE, FOLDER_MODE, TrustError, check_way, foreign

MANIFEST = "manifest"
FORMAT = 1
PIECE_BYTES = 8 << 20  # hashed as one; several pieces are hashed at once
_MANIFEST_BYTES = 1 << 20
_READ_BYTES = 1 << 20  # fits the processor's cache, so that hashing does not wait for memory twice
_THREADS = 4


class SealError(TrustError):
    """A folder is not as it was sealed; the message says which file, and what is wrong."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Describe a file as it was when it was sealed."""

    bytes: int
    modified_ns: int
    sha256: tuple[str, ...]  # of each piece

    @classmethod
    def of(cls, file: BinaryIO) -> FileEntry:
        """Describe a file as it is now."""
        status = os.fstat(file.fileno())
        return cls(status.st_size, status.st_mtime_ns, _hashes(file, status.st_size))


class Sealed:
    """Open a sealed folder: its list and its owners are checked then, and each file when it is opened.

    Files are opened below the folder's own descriptor, never through a link, and what was checked is what is read.
    """

    def __init__(self, path: Path, fd: int, entries: Mapping[str, FileEntry]) -> None:
        self.path = path
        self._fd = fd
        self._entries = entries

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a folder. Raises SealError for what is wrong with it, and TrustError where others may write above it."""
        try:
            way = check_way(folder.parent) / folder.name
            fd = os.open(way, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise SealError(f"{folder} is not a folder that can be read ({error.strerror})") from error
        try:
            if why := foreign(os.fstat(fd)):
                raise SealError(f"{folder} {why}")
            return cls(folder, fd, _listed(folder, fd))
        except BaseException:
            os.close(fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._fd)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the files."""
        return tuple(self._entries)

    def open_file(self, name: str, *, known: bool = False) -> BinaryIO:
        """Open a file after a check that it is as it was sealed, down to the last bit. Raises SealError.

        known: the whole folder was checked when the server started, so the file is not hashed again where its size and
        the time of its last change are those of its sealing.
        """
        file = self._open(name)
        try:
            entry = self._entries[name]
            unchanged = known and os.fstat(file.fileno()).st_mtime_ns == entry.modified_ns
            if not unchanged:
                self._compare(name, _hashes(file, entry.bytes))
        except BaseException:
            file.close()
            raise
        return file

    def read(self, name: str) -> bytes:
        """Return a file's content, after a check that it is as it was sealed. Raises SealError."""
        with self._open(name) as file:
            content = file.read(self._entries[name].bytes)
        view = memoryview(content)
        self._compare(name, tuple(hashlib.sha256(view[at : at + PIECE_BYTES]).hexdigest() for at in _starts(len(view))))
        return content

    def _open(self, name: str) -> BinaryIO:
        """Open a file, after a check that it is as long as it was."""
        if name not in self._entries:
            raise SealError(f"{self.path} has no {name}")
        file, wanted = _opened(self.path, self._fd, name), self._entries[name].bytes
        if (found := os.fstat(file.fileno()).st_size) != wanted:
            file.close()
            raise SealError(f"{self.path / name} has {found:,} bytes, and was written with {wanted:,}")
        return file

    def _compare(self, name: str, hashes: tuple[str, ...]) -> None:
        if hashes != self._entries[name].sha256:
            raise SealError(f"{self.path / name} has other content than was written (its SHA-256 differs)")

    def check(self) -> None:
        """Check all files. Raises SealError for the first that is not as it was sealed."""
        for name in self._entries:
            self.open_file(name).close()


def seal(folder: Path) -> None:
    """Write down what is in a folder, and let no one but this user write there from now on."""
    entries = {}
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            path.chmod(FILE_MODE)
            with path.open("rb") as file:
                entries[path.name] = asdict(FileEntry.of(file))
    manifest = folder / MANIFEST
    manifest.write_bytes(_with_hash(json.dumps({"format": FORMAT, "files": entries}).encode()))
    manifest.chmod(FILE_MODE)
    folder.chmod(FOLDER_MODE)


def _listed(folder: Path, fd: int) -> dict[str, FileEntry]:
    """Return the list, after a check that the folder has these files and no others."""
    entries, there = _read_manifest(folder, fd), set(os.listdir(fd))
    if missing := sorted(entries.keys() - there):
        raise SealError(f"{folder / missing[0]} is missing")
    if additional := sorted(there - entries.keys() - {MANIFEST}):
        raise SealError(f"{folder / additional[0]} was not written with the rest")
    return entries


def _read_manifest(folder: Path, fd: int) -> dict[str, FileEntry]:
    with _opened(folder, fd, MANIFEST) as file:
        text = file.read(_MANIFEST_BYTES)
    said = text.partition(b"\n")[0]
    try:
        if text != _with_hash(said):
            raise ValueError("other content than was written")
        values = json.loads(said)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']}")
        return {
            name: FileEntry(int(each["bytes"]), int(each["modified_ns"]), tuple(each["sha256"]))
            for name, each in values["files"].items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SealError(f"{folder / MANIFEST} is damaged") from error


def _with_hash(said: bytes) -> bytes:
    return said + b"\n" + hashlib.sha256(said).hexdigest().encode() + b"\n"


def _opened(folder: Path, fd: int, name: str) -> BinaryIO:
    """Open a regular file of the folder that nobody else may write to, without blocking on a pipe."""
    try:
        file = open(folder / name, "rb", opener=partial(_open_below, fd))  # noqa: SIM115 - for callers to close
    except FileNotFoundError as error:
        raise SealError(f"{folder / name} is missing") from error
    except OSError as error:
        what = "is a symbolic link" if _is_link(name, fd) else f"cannot be read ({error.strerror})"
        raise SealError(f"{folder / name} {what}") from error
    status = os.fstat(file.fileno())
    why = foreign(status) if stat.S_ISREG(status.st_mode) else "is not a regular file"
    if why:
        file.close()
        raise SealError(f"{folder / name} {why}")
    return file


def _open_below(fd: int, path: str, flags: int) -> int:
    return os.open(Path(path).name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)


def _is_link(name: str, fd: int) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    return False


def _hashes(file: BinaryIO, size: int) -> tuple[str, ...]:
    """Return the SHA-256 of each piece of a file's first `size` bytes, in threads: hashing releases the GIL."""
    starts = _starts(size)
    one = partial(_piece_hash, file.fileno(), size)
    if len(starts) == 1:
        return (one(0),)
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        return tuple(threads.map(one, starts))


def _starts(size: int) -> range:
    """Return where the pieces of a file begin; an empty file has one piece."""
    return range(0, max(size, 1), PIECE_BYTES)


def _piece_hash(fd: int, size: int, start: int) -> str:
    digest = hashlib.sha256()
    for part in _parts(fd, start, min(start + PIECE_BYTES, size)):
        digest.update(part)
    return digest.hexdigest()


def _parts(fd: int, start: int, end: int) -> Iterator[memoryview]:
    """Yield the parts of a piece, each in the same buffer.

    The file is not mapped: one that is cut meanwhile would end the process.
    """
    buffer = memoryview(bytearray(min(_READ_BYTES, end - start)))
    while start < end and (count := os.preadv(fd, [buffer[: end - start]], start)):
        yield buffer[:count]
        start += count
