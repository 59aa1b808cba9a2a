"""Compute what is asked of tokens' probabilities over the whole vocabulary, a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertstream.workers.ragged import Ints, starts_of

LOGITS_BYTES = 32 << 20  # of one product with the vocabulary, in float32


def rows_at_once(vocabulary: int) -> int:
    """Return how many rows may go through one product with a vocabulary of this size."""
    return max(1, LOGITS_BYTES // (4 * vocabulary))


class Demand(Protocol):
    """Ask for something about the probabilities of some tokens."""

    rows: Ints  # [S] the tokens' rows among the states
    found: dict[str, Tensor]  # [S, …] each, by the ending of its name

    def take(self, place: slice, logits: Tensor, total: Tensor) -> None:
        """Fill these places of `found`, from their logits [s, V] and the logsumexp of those, [s, 1]."""


class Candidates:
    """Find the most likely ids, among all or among the targets; the lower id comes first among equals."""

    def __init__(self, rows: Ints, top_k: int, targets: Sequence[int], vocabulary: int, device: torch.device) -> None:
        self.rows = rows
        self._targets = torch.tensor(sorted(targets), dtype=torch.int64, device=device)
        self._k = min(top_k, len(targets) or vocabulary)
        self.found = {
            ".ids": torch.empty(rows.size, self._k, dtype=torch.int32, device=device),
            ".scores": torch.empty(rows.size, self._k, device=device),
        }

    def take(self, place: slice, logits: Tensor, total: Tensor) -> None:
        if self._targets.numel():
            ids = self._targets.expand(len(logits), -1)
        else:
            ids = _top(logits, self._k).sort(dim=1).values
        best, order = logits.gather(1, ids).sort(dim=1, descending=True, stable=True)
        self.found[".ids"][place] = ids.gather(1, order)[:, : self._k].to(torch.int32)
        self.found[".scores"][place] = (best - total).exp()[:, : self._k]


class LogProbabilities:
    """Take the logarithm of the probability of one id a token."""

    def __init__(self, rows: Ints, ids: NDArray[np.int32], device: torch.device) -> None:
        self.rows = rows
        self._ids = torch.from_numpy(ids.astype(np.int64)).to(device)
        self.found = {"": torch.empty(rows.size, device=device)}

    def take(self, place: slice, logits: Tensor, total: Tensor) -> None:
        self.found[""][place] = (logits.gather(1, self._ids[place].unsqueeze(1)) - total).squeeze(1)


def _top(logits: Tensor, k: int) -> Tensor:
    """Return the ids [s, k] of the largest logits [s, V], the lower id first among equals.

    topk promises no order among equals, so what a token gets could depend on the larger k of a neighbour in its batch.
    """
    values, ids = logits.topk(k, dim=1)
    least = values[:, -1:]
    unsure = (logits == least).sum(dim=1) > (values == least).sum(dim=1)
    if bool(unsure.any()):
        ids[unsure] = logits[unsure].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return ids


def fill(demands: Sequence[Demand], states: Tensor, mask_logits: Callable[[Tensor], Tensor], vocabulary: int) -> None:
    """Fill all demands on states [T, H]; `mask_logits` makes their logits, [M, H] -> [M, V]."""
    rows = np.concatenate([demand.rows for demand in demands])
    starts = starts_of(np.array([demand.rows.size for demand in demands])).tolist()
    step = rows_at_once(vocabulary)
    for first in range(0, rows.size, step):
        chosen = rows[first : first + step]
        logits = mask_logits(states.index_select(0, torch.from_numpy(chosen).to(states.device))).float()
        total = logits.logsumexp(dim=1, keepdim=True)
        for demand, start in zip(demands, starts, strict=True):
            low, high = max(first, start), min(first + chosen.size, start + demand.rows.size)
            if low < high:
                part = slice(low - first, high - first)
                demand.take(slice(low - start, high - start), logits[part], total[part])
