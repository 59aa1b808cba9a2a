"""Remember what was made of the last few things that callers sent, as most calls of a caller are alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Memo(Generic[Made]):
    """Remember the values that were asked for last, up to a number of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: dict[Hashable, Made] = {}  # the one that was asked for the longest ago comes first

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return the value of a key, made now where it is not known; what `make` raises is not remembered."""
        found = self._made.pop(key, None)
        if found is None:
            found = make()
            if len(self._made) >= self._most:
                del self._made[next(iter(self._made))]
        self._made[key] = found
        return found
