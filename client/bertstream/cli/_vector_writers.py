"""The outputs of `bertstream encode`: a vector for each text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from bertstream.cli._table import clipped
from bertstream.cli._writers import ArchiveFile, ArrayFile, LinesFile
from bertstream.client import EncodedBatch, RpcError


class Writer(Protocol):
    """Writes batches of vectors."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: Any, error: Any, traceback: Any, /) -> None: ...

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch."""


class LineWriter(LinesFile):
    """Writes one JSON object per text: {"id": 0, "vector": [...]}, or {"id": 0, "error": {...}}."""

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch."""
        failed = {failure.id: failure.error for failure in batch.errors}
        for item, vector in zip(batch.ids.tolist(), batch.vectors, strict=True):
            if item in failed:
                self.line(failed_line(item, failed[item]))
            else:
                self.line(json.dumps({"id": item, "vector": decimals(vector)}) + "\n")


class SummaryWriter(LinesFile):
    """Writes a summary for people: the first numbers of each vector, its length and norm."""

    def __init__(self, output: Path | None, texts: Sequence[str]) -> None:
        super().__init__(output)
        self._texts = texts

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch."""
        for item, vector in zip(batch.ids.tolist(), batch.vectors, strict=True):
            norm = float(np.linalg.norm(vector.astype(np.float32)))
            about = f"[{len(vector)}] {vector.dtype}, norm {norm:.4f}: {beginning(vector)}"
            self.line(f"{named(item, self._texts)}\n  {about}\n")


class ArrayWriter(ArrayFile):
    """Writes a .npy file [n, d]."""

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch."""
        self.append(batch.vectors, missing=len(batch.errors) == len(batch))


class ArchiveWriter(ArchiveFile):
    """Writes a .npz file with `ids` [n] and `vectors` [n, d]."""

    def __init__(self, output: Path) -> None:
        super().__init__(output)
        self._ids: list[np.ndarray[Any, Any]] = []

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch."""
        self._ids.append(batch.ids)
        self.append(batch.vectors, missing=len(batch.errors) == len(batch))

    def others(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """Return the ids."""
        return {"ids": np.concatenate([np.empty(0, np.int64), *self._ids])}


def writer_for(kind: str, output: Path | None, texts: Sequence[str]) -> Writer:
    """Return the writer of a format."""
    if kind == "npy":
        return ArrayWriter(output)
    if kind == "npz":
        assert output is not None
        return ArchiveWriter(output)
    return SummaryWriter(output, texts) if kind == "summary" else LineWriter(output)


def decimals(vector: np.ndarray[Any, Any]) -> list[float]:
    """Return the numbers with the shortest decimals that are read back as the same float32 or float16."""
    return [float(str(value)) for value in vector]


def failed_line(item: int, error: RpcError) -> str:
    """Return the line of JSON of a text that failed."""
    return json.dumps({"id": item, "error": {"status": error.status, "message": error.message}}) + "\n"


def beginning(vector: np.ndarray[Any, Any]) -> str:
    """Return the first numbers of a vector, for people."""
    return " ".join(f"{value:+.4f}" for value in vector[:6]) + (" …" if len(vector) > 6 else "")


def named(item: int, texts: Sequence[str]) -> str:
    """Return a text's id and beginning, for people."""
    return f"{item} {clipped(texts[item], 60)}" if item < len(texts) else str(item)
