"""Follows the file of keys; the keys in use are those of its last good contents."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bertstream.server.keys.file import KeysError, ReadKeys, read
from bertstream.server.settings import KEY_SLOTS, KeyEntry

log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]
_NONE: _Stamp = (0, 0, 0)


class FollowedKeys:
    """A file of keys that may change at any time; each fault of it is logged once."""

    def __init__(self, path: Path, *, certificates: bool, first: tuple[KeyEntry, ...] | None = None) -> None:
        """Take the file and the keys to use until it changes; without `first` the file is read at once.

        certificates: whether clients show certificates. Raises KeysError.
        """
        self.path = path
        self.certificates = certificates
        self._slots = Slots(KEY_SLOTS)
        self._stamp = _NONE if first is not None else _stamp(path)  # it may have changed since `first` was read
        self._current = self._announced(read(path, certificates=certificates)) if first is None else first

    @property
    def current(self) -> tuple[KeyEntry, ...]:
        """The keys in use, each with its slot."""
        return self._current

    def follow(self) -> bool:
        """Use what the file holds, if it has changed since the last look and is good; return whether keys did."""
        return _stamp(self.path) != self._stamp and self.reload()

    def reload(self) -> bool:
        """Read the file at once, and use what it holds if that is good; return whether keys changed."""
        self._stamp = _stamp(self.path)
        try:
            found = read(self.path, certificates=self.certificates)
        except KeysError as error:
            log.error("the keys in use are kept: %s", error)
            return False
        before, self._current = self._current, self._announced(found)
        return self._current != before

    def _announced(self, found: ReadKeys) -> tuple[KeyEntry, ...]:
        log.info("using the keys of %s", self.path, extra={"keys": len(found.keys)})
        for warning in found.warnings:
            log.warning("%s", warning)
        return self._slots.assign(found.keys)


class Slots:
    """Gives each key a slot in the file of counts, which stays its own until the key is removed.

    A slot that becomes free is the last to be used again, so that the calls of its former key have ended long before.
    """

    def __init__(self, count: int) -> None:
        self._free = deque(range(count))
        self._taken: dict[tuple[str, str, str], int] = {}

    def assign(self, entries: Iterable[KeyEntry]) -> tuple[KeyEntry, ...]:
        """Return the keys, each with its slot."""
        keys = {each.identity: each for each in entries}
        for gone in [key for key in self._taken if key not in keys]:
            self._free.append(self._taken.pop(gone))
        for key in keys:
            if key not in self._taken:
                self._taken[key] = self._free.popleft()
        return tuple(replace(entry, slot=self._taken[key]) for key, entry in keys.items())


def _stamp(path: Path) -> _Stamp:
    """Return time, size and inode, which change when the file does; all zeros if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return _NONE
    return found.st_mtime_ns, found.st_size, found.st_ino
