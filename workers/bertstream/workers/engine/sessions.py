"""Keep states between the steps of a computation that goes layer by layer.

This is only a cache: a step that does not find its states starts from the embeddings, so that any worker can go on with
what another has begun.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock

from torch import Tensor

Key = tuple[object, int]  # the connection, and the session's number on it


@dataclass(frozen=True, slots=True)
class Reached:
    """Say how far a session has come."""

    layer: int
    states: Tensor  # [T, H] of that layer


class Sessions:
    """Keep the states of sessions within a bound in bytes, and forget the least recently used first.

    A session is under way from `begin` until it is forgotten. States are kept only then, since a step that is still
    being computed when its caller leaves would otherwise keep them for ever.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._reached: OrderedDict[Key, Reached] = OrderedDict()
        self._under_way: set[Key] = set()
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Return the bytes held."""
        return sum(each.states.nbytes for each in self._reached.values())

    def begin(self, source: object, number: int) -> bool:
        """Note that a step of this session has arrived, and return whether it is the first."""
        with self._lock:
            known = (source, number) in self._under_way
            self._under_way.add((source, number))
            return not known

    def get(self, key: Key) -> Reached | None:
        """Return where the session is, if that is still known."""
        with self._lock:
            return self._reached.get(key)

    def put(self, key: Key, reached: Reached) -> None:
        """Remember where the session is, unless it is over."""
        with self._lock:
            if key not in self._under_way:
                return
            self._reached[key] = reached
            self._reached.move_to_end(key)
            while len(self._reached) > 1 and self.size > self._limit_bytes:
                self._reached.popitem(last=False)

    def forget(self, source: object, numbers: Iterable[int]) -> None:
        """Forget sessions that are over."""
        with self._lock:
            for number in numbers:
                self._under_way.discard((source, number))
                self._reached.pop((source, number), None)

    def forget_all(self, source: object) -> None:
        """Forget all sessions of a connection that is gone."""
        with self._lock:
            for key in [key for key in self._under_way if key[0] is source]:
                self._under_way.discard(key)
                self._reached.pop(key, None)
