"""Sparse vectors, which tasks and the encoder give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.client._columns import check, joined, split
from bertstream.v1 import tasks_pb2 as tasks


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """The tokens of the vocabulary that have a weight above 0 for a text. The product of two is their similarity."""

    token_ids: NDArray[np.int32]
    """[n]: rising."""
    weights: NDArray[np.float32]
    """[n]"""
    tokens: tuple[str, ...] = ()
    """The tokens as text; empty unless asked for."""

    def __len__(self) -> int:
        return len(self.token_ids)

    def __matmul__(self, other: SparseVector) -> float:
        """Return the dot product of two vectors of one model."""
        _, mine, theirs = np.intersect1d(self.token_ids, other.token_ids, assume_unique=True, return_indices=True)
        return float(self.weights[mine] @ other.weights[theirs])


def sparse_vectors(message: tasks.SparseVectors, items: int) -> list[SparseVector]:
    """Return the vector of each text."""
    check(message.weight_counts, items, "weight_counts")
    ids = split(np.fromiter(message.token_ids, np.int32), message.weight_counts)
    weights = split(np.fromiter(message.weights, np.float32), message.weight_counts)
    spelled: Sequence[Any] = [()] * items
    if message.tokens:
        spelled = split(tuple(message.tokens), message.weight_counts)
    return joined(SparseVector, ids, weights, spelled)
