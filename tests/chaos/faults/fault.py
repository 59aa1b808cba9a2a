"""What a fault is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.scene import Scene


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    provoke: Callable[[Scene], None]
    """Does it, and takes back what would go on. Raises NotAsPromised where what comes of it is not as documented."""
    quick: bool = False
    """Whether it takes a few seconds at most."""

    @property
    def meaning(self) -> str:
        """What is done, in a line."""
        return (self.provoke.__doc__ or "").strip().partition("\n")[0]
