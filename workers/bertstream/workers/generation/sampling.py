"""Drawing tokens by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bertstream.workers.contract import GenerationOptions


@dataclass(frozen=True, slots=True)
class Odds:
    """How to draw in each of B rows. All [B], on the device of the scores."""

    temperature: Tensor  # float32
    top_k: Tensor  # int64, 0 for all
    top_p: Tensor  # float32

    @classmethod
    def of(cls, options: Sequence[GenerationOptions], device: torch.device) -> Odds:
        return cls(
            torch.tensor([each.temperature for each in options], dtype=torch.float32, device=device),
            torch.tensor([each.top_k for each in options], dtype=torch.int64, device=device),
            torch.tensor([each.top_p for each in options], dtype=torch.float32, device=device),
        )


def draw(scores: Tensor, odds: Odds, chances: Tensor) -> Tensor:
    """One token for each row, by inverting its distribution. No row depends on the others.

    scores [B, V] float32; chances [B] float64, uniform in [0, 1) -> [B] int64. Temperature, top-k and top-p come in
    this order, as in transformers; tokens as probable as the last that is kept are kept too.
    """
    scores = keep_top_k(divide(scores, odds.temperature), odds.top_k)
    scores, ids = compact(scores)
    reached = keep_top_p(scores, odds.top_p).double().softmax(-1).cumsum(-1)
    # Below the total, however it was rounded: so the first place above is one whose probability is not zero.
    wanted = chances.clamp(max=1 - 1e-12) * reached[:, -1]
    place = torch.searchsorted(reached, wanted[:, None], right=True).clamp(max=scores.shape[1] - 1)
    return ids.gather(1, place)[:, 0]


def divide(scores: Tensor, temperature: Tensor) -> Tensor:
    """By the temperature, and with the best of each row at 0, so that however low it is nothing becomes infinite.

    scores [B, V], temperature [B] -> [B, V]
    """
    best = scores.amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)  # nothing may be allowed
    return (scores - best) / temperature[:, None]


def compact(scores: Tensor) -> tuple[Tensor, Tensor]:
    """What top-k has left, in the order of the ids, with nothing behind it, and these ids: [B, V] -> [B, C], [B, C].

    Only so that a large vocabulary does not cost more than the model.
    """
    left = scores > -torch.inf
    counts = left.sum(-1)
    most = max(1, int(counts.max()))
    if 2 * most > scores.shape[1]:
        return scores, torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    rows, ids = left.nonzero(as_tuple=True)
    places = torch.arange(ids.numel(), device=ids.device) - (counts.cumsum(0) - counts)[rows]
    found, their_ids = scores.new_full((len(scores), most), -torch.inf), ids.new_zeros((len(scores), most))
    found[rows, places], their_ids[rows, places] = scores[rows, ids], ids
    return found, their_ids


def keep_top_k(scores: Tensor, top_k: Tensor) -> Tensor:
    """Only so many of the best of each row, or all for 0. scores [B, V], top_k [B] -> [B, V]"""
    limits = top_k.clamp(max=scores.shape[1])
    most = int(limits.max())
    if not most:
        return scores
    best = scores.topk(most).values
    least = best.gather(1, (limits - 1).clamp(min=0)[:, None])
    return scores.masked_fill((scores < least) & (limits > 0)[:, None], -torch.inf)


def keep_top_p(scores: Tensor, top_p: Tensor) -> Tensor:
    """Of each row the fewest best that together reach this probability. scores [B, V], top_p [B] -> [B, V]"""
    cut = (top_p < 1).nonzero()[:, 0]
    if not len(cut):
        return scores
    rows = scores[cut]
    ascending = rows.sort(-1).values
    beyond = ascending.softmax(-1).cumsum(-1) <= 1 - top_p[cut, None]
    beyond[:, -1] = False
    least = ascending.gather(1, beyond.sum(-1, keepdim=True))
    return scores.index_copy(0, cut, rows.masked_fill(rows < least, -torch.inf))
