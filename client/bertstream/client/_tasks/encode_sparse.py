"""The task "encode_sparse": the weights of the vocabulary's tokens for a text (SPLADE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._common_options import set_prompt
from bertstream.client._tasks.columns import check, joined, split
from bertstream.client._tasks.items import ANY, preparing
from bertstream.client._tasks.options import TaskOptions, at_least_one, with_common
from bertstream.client._tasks.task import Task
from bertstream.v1 import tasks_pb2 as tasks

_AS_TEXTS = 16  # an estimate of the texts that take about as many bytes as one vector


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


class SparseOptions(TaskOptions, total=False):
    """Keyword arguments of `encode_sparse`: those of TaskOptions, and these."""

    top_k: int | None
    """How many tokens of each text to keep, with the greatest weights; None for all, or as the checkpoint says."""
    prompt: str | None
    """Text that is put before every text (before the first of a pair). None for the checkpoint's default prompt."""
    prompt_name: str | None
    """The prompt of that name in the checkpoint's sentence-transformers files."""
    tokens: bool
    """Whether to return the tokens as text too."""


class SparseCall(CallOptions, SparseOptions, total=False):
    """Keyword arguments of `encode_sparse`, for type checkers."""


class SparseStream(StreamOptions, SparseOptions, total=False):
    """Keyword arguments of a stream of "encode_sparse"."""


def encode_sparse_task(
    *,
    top_k: int | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    tokens: bool = False,
    **given: Any,
) -> Task[SparseVector]:
    """Return the task for SparseOptions. Raises ValueError for unusable values."""
    options = tasks.SparseOptions(top_k=at_least_one(top_k, "top_k"), include_tokens=tokens)
    set_prompt(options, prompt, prompt_name)
    return Task(
        with_common(options, **given),
        tasks.EncodeSparseRequest,
        tasks.SparseVectors,
        preparing("encode_sparse", ANY, _AS_TEXTS),
        vectors_of,
    )


def vectors_of(message: tasks.SparseVectors, items: int) -> list[SparseVector]:
    """Return the vector of each text."""
    check(message.weight_counts, items, "weight_counts")
    ids = split(np.fromiter(message.token_ids, np.int32), message.weight_counts)
    weights = split(np.fromiter(message.weights, np.float32), message.weight_counts)
    spelled: Sequence[Any] = [()] * items
    if message.tokens:
        spelled = split(tuple(message.tokens), message.weight_counts)
    return joined(SparseVector, ids, weights, spelled)
