"""Record what a worker is computing in a mapped file, which can still be read after the worker was killed."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from pathlib import Path

from bertstream.workers.mapped import map_file
from bertstream.workers.serving.cores import Cores

_COUNT = struct.Struct("<Q")
_KEY = struct.Struct("<QQ")
MAX_KEYS = 8192
_SIZE = _COUNT.size + MAX_KEYS * _KEY.size

Key = tuple[int, int]  # the connection's number and the work's id


class RunningRecord:
    """Write the record, as the worker does around each batch."""

    def __init__(self, path: Path) -> None:
        """Make the file. Raises OSError."""
        self._map = map_file(path, _SIZE)

    def set(self, keys: Iterable[Key]) -> None:
        """Record that these are computed from now on.

        The count goes last, so that a reader never sees half a key.
        """
        packed = b"".join(_KEY.pack(*key) for key in keys)[: MAX_KEYS * _KEY.size]
        self._map[_COUNT.size : _COUNT.size + len(packed)] = packed
        self._map[: _COUNT.size] = _COUNT.pack(len(packed) // _KEY.size)

    def clear(self) -> None:
        """Record that nothing is being computed."""
        self._map[: _COUNT.size] = _COUNT.pack(0)


class Computing:
    """Track what this process computes and since when, for its watchers, and the cores that it uses.

    A single thread begins and ends: the one that computes.
    """

    def __init__(self, record: RunningRecord, cores: Cores | None = None) -> None:
        self._record = record
        self._cores = cores
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Return how long the current computation has been going on; 0 when idle."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def begin(self, keys: Iterable[Key], *, hurry: bool = False) -> float:
        """Note that these are computed from now on, and return the time.

        hurry: use idle cores too.
        """
        self._record.set(keys)
        if self._cores:
            self._cores.take(idle=hurry)
        self._since = now = time.monotonic()
        return now

    def end(self) -> None:
        """Note that nothing is being computed.

        It is not called after an error that kills the process, since the record is to outlive it.
        """
        self._since = None
        self._record.clear()
        if self._cores:
            self._cores.give_back()


def read_running(path: Path) -> frozenset[Key]:
    """Return what a worker was computing when it died; nothing if there is no such file."""
    try:
        data = path.read_bytes()
    except OSError:
        return frozenset()
    if len(data) != _SIZE:
        return frozenset()
    count = min(_COUNT.unpack_from(data)[0], MAX_KEYS)
    return frozenset((key[0], key[1]) for key in _KEY.iter_unpack(data[_COUNT.size : _COUNT.size + count * _KEY.size]))
