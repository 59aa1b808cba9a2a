"""The outputs of `bertstream encode-multi`: several vectors for each text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from bertstream.cli._vector_writers import beginning, decimals, failed_line, named
from bertstream.cli._writers import ArchiveFile, LinesFile
from bertstream.client import OutputsBatch


class Writer(Protocol):
    """Writes batches of the vectors of tokens."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: Any, error: Any, traceback: Any, /) -> None: ...

    def write(self, batch: OutputsBatch) -> None:
        """Write a batch."""


class LineWriter(LinesFile):
    """Writes one JSON object per text: {"id": 0, "vectors": [[...], ...]}, or {"id": 0, "error": {...}}."""

    def write(self, batch: OutputsBatch) -> None:
        """Write a batch, in the order of the texts."""
        lines = {failure.id: failed_line(failure.id, failure.error) for failure in batch.errors}
        for item, vectors in vectors_of(batch):
            lines[item] = json.dumps({"id": item, "vectors": list(map(decimals, vectors))}) + "\n"
        for item in sorted(lines):
            self.line(lines[item])


class SummaryWriter(LinesFile):
    """Writes a summary for people: how many vectors each text has, and the first of them."""

    def __init__(self, output: Path | None, texts: Sequence[str]) -> None:
        super().__init__(output)
        self._texts = texts

    def write(self, batch: OutputsBatch) -> None:
        """Write a batch."""
        for item, vectors in vectors_of(batch):
            first = f": {beginning(vectors[0])}" if len(vectors) else ""
            self.line(f"{named(item, self._texts)}\n  {list(vectors.shape)} {vectors.dtype}{first}\n")


class ArchiveWriter(ArchiveFile):
    """Writes a .npz file with `ids` [n], `vectors` [t, d] of all texts, and `offsets` [n + 1].

    Text i has `vectors[offsets[i]:offsets[i + 1]]`. A text that failed is not there.
    """

    def __init__(self, output: Path) -> None:
        super().__init__(output)
        self._ids: list[int] = []
        self._counts: list[int] = []

    def write(self, batch: OutputsBatch) -> None:
        """Write a batch."""
        for item, vectors in vectors_of(batch):
            self._ids.append(item)
            self._counts.append(len(vectors))
            self.append(vectors)

    def others(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """Return the ids, and where each text's vectors begin."""
        return {"ids": np.array(self._ids, np.int64), "offsets": np.cumsum([0, *self._counts], dtype=np.int64)}


def vectors_of(batch: OutputsBatch) -> list[tuple[int, np.ndarray[Any, Any]]]:
    """Return the id of each text that did not fail, and its vectors [tokens that count, d]."""
    rows = zip(batch.ids.tolist(), (outputs.token_vectors for outputs in batch.outputs), strict=True)
    return [(item, vectors) for item, vectors in rows if vectors is not None]


def writer_for(kind: str, output: Path | None, texts: Sequence[str]) -> Writer:
    """Return the writer of a format."""
    if kind == "npz":
        assert output is not None
        return ArchiveWriter(output)
    return SummaryWriter(output, texts) if kind == "summary" else LineWriter(output)
