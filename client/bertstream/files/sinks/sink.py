"""What the writers of all formats have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, TypeAlias

from bertstream.files.schema import Column

Part: TypeAlias = Callable[[], AbstractContextManager[IO[bytes]]]
"""Opens a part for reading."""


@dataclass(frozen=True, slots=True)
class Block:
    """Hold consecutive rows of an output."""

    columns: Sequence[Column]
    kept: Sequence[Any] = field(default_factory=list)
    """The columns that are carried, in parts whose rows follow each other, as `Chunk.kept_rows` gives them."""

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.columns[0].values)


class Sink(Protocol):
    """Writes one format: parts, each complete in itself, and the output that all parts make together.

    Parts of a run that was killed can be joined with those of a later one, which is told the last of them.
    """

    def go_on(self, part: Part) -> None:
        """Go on behind this part."""

    def has_lists(self, name: str) -> bool | None:
        """Return whether all values of a column that is written already are lists; None where any value may be one."""

    def write_part(self, file: IO[bytes], block: Block) -> None:
        """Write a part. Raises ValueError for values that the format cannot hold."""

    def join(self, file: IO[bytes], parts: Sequence[Part]) -> None:
        """Write the output, in constant memory."""


def check_names(block: Block, kept: Sequence[str]) -> None:
    """Raise ValueError if a column that is carried has the name of one that the task gives."""
    for column in block.columns:
        if column.name in kept:
            raise ValueError(f"the input has a column {column.name!r}, as the output does: leave it out of `keep`")
