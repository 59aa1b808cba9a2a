"""Pool the logits of the whole vocabulary to one sparse vector a text (SPLADE), a few tokens at a time.

Sources: Formal et al. 2021, https://arxiv.org/abs/2109.10086; the numbers are those of sentence-transformers'
SpladePooling. T tokens, V ids in the vocabulary, S weights above 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertstream.workers.contract import SparsePooling
from bertstream.workers.engine.vocabulary import rows_at_once
from bertstream.workers.ragged import Ints, pieces_of, starts_of

Logits = Callable[[Ints], Tensor]  # of these rows of a batch's states: [M] -> [M, V]


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Hold the weights of n texts that are above 0, text by text, in the order of their ids."""

    counts: NDArray[np.int32]  # [n]
    ids: NDArray[np.int32]  # [S]
    weights: NDArray[np.float32]  # [S]


def pool_sparse(
    logits: Logits, vocabulary: int, rows: Ints, lengths: NDArray[np.integer], pooling: SparsePooling
) -> SparseRows:
    """Return the weights of n texts, whose T rows among the states lie end to end.

    rows: [T]; lengths: [n]. Short texts are computed together, as many as one product with the vocabulary may have, and
    of a long one what its first tokens gave is merged with what the next ones give. A text is always cut at the same
    places, so its numbers do not depend on its neighbours.
    """
    at_once, starts = rows_at_once(vocabulary), starts_of(lengths)
    found = []
    for first, last in pieces_of(lengths, at_once):
        sizes = lengths[first:last].tolist()
        some = rows[starts[first] : starts[first] + sum(sizes)]
        found.append(_compact(_pool(logits, some, sizes, pooling, at_once)))
    return SparseRows(*(np.concatenate(column) for column in zip(*found, strict=True)))


def greatest_by_id(
    ids: NDArray[np.int32], weights: NDArray[np.float32], lengths: NDArray[np.integer], skipped: Sequence[int]
) -> SparseRows:
    """Return, of n texts end to end, the greatest weight of each id that a text has, without those that are skipped.

    ids, weights: [T]; lengths: [n].
    """
    texts = np.repeat(np.arange(lengths.size), lengths)
    kept = (weights > 0) & ~np.isin(ids, np.array(skipped, np.int32))
    keys = texts[kept].astype(np.int64) << 32 | ids[kept]
    distinct, which = np.unique(keys, return_inverse=True)
    greatest = np.zeros(distinct.size, np.float32)
    np.maximum.at(greatest, which.ravel(), weights[kept])
    counts = np.bincount(distinct >> 32, minlength=lengths.size).astype(np.int32)
    return SparseRows(counts, (distinct & 0xFFFFFFFF).astype(np.int32), greatest)


def keep_best(found: SparseRows, k: int) -> SparseRows:
    """Return the k greatest weights of each text, the lower id first among equals, still in the order of the ids."""
    if not found.counts.size or found.counts.max() <= k:
        return found
    kept = []
    for start, count in zip(starts_of(found.counts).tolist(), found.counts.tolist(), strict=True):
        best = np.argsort(-found.weights[start : start + count], kind="stable")[:k]
        kept.append(start + np.sort(best))
    at = np.concatenate(kept)
    return SparseRows(np.minimum(found.counts, k), found.ids[at], found.weights[at])


def _pool(logits: Logits, rows: Ints, lengths: Sequence[int], pooling: SparsePooling, at_once: int) -> Tensor:
    """Return the weights of texts that fit at once, or of a single long one: [m, V] float32."""
    if rows.size <= at_once:
        texts = _entered(logits(rows), pooling).split(list(lengths))
        pooled = torch.stack([_reduced(each, pooling) for each in texts])
    else:
        pooled = torch.zeros(())
        for first in range(0, rows.size, at_once):
            part = _reduced(_entered(logits(rows[first : first + at_once]), pooling), pooling)
            pooled = part if not first else _reduced(torch.stack((pooled, part)), pooling)
        pooled = pooled.unsqueeze(0)
    return _activated(pooled, pooling) if pooling.strategy == "max" else pooled


def _entered(logits: Tensor, pooling: SparsePooling) -> Tensor:
    """Return what is pooled. Activations grow with the logits, so that a maximum needs them only once, behind it."""
    return logits if pooling.strategy == "max" else _activated(logits, pooling)


def _reduced(values: Tensor, pooling: SparsePooling) -> Tensor:
    """Pool the first dimension: [M, V] -> [V]."""
    return values.amax(dim=0) if pooling.strategy == "max" else values.sum(dim=0)


def _activated(logits: Tensor, pooling: SparsePooling) -> Tensor:
    """Return the weights of logits, float32."""
    weights = logits.float().relu().log1p_()
    return weights if pooling.activation == "relu" else weights.log1p_()


def _compact(weights: Tensor) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return the counts, ids and weights of what is above 0 in [m, V]."""
    above = weights > 0
    texts_ids = above.nonzero()  # [S, 2], in the order of texts, then of ids
    counts = above.sum(dim=1).to(torch.int32)
    ids = texts_ids[:, 1].to(torch.int32)
    return counts.cpu().numpy(), ids.cpu().numpy(), weights[above].cpu().numpy()
