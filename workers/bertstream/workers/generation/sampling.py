"""Draw tokens at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bertstream.workers.contract import GenerationOptions

_BEST = 256  # of each row, tried for top-p before the whole row is sorted
_ROUNDING = 1e-5  # in a sum of float32 probabilities


@dataclass(frozen=True, slots=True)
class Odds:
    """Say how to draw in each of B rows.

    All fields are [B], on the scores' device.
    """

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
    """Draw one token for each row, by inverting its distribution. No row depends on the others.

    scores: [B, V] float32; chances: [B] float64, uniform in [0, 1) -> [B] int64. Temperature, top-k and top-p are
    applied in this order, as in transformers. Tokens as probable as the least probable one kept are kept too.
    """
    scores = keep_top_k(divide(scores, odds.temperature), odds.top_k)
    scores, ids = compact(scores)
    reached = keep_top_p(scores, odds.top_p).double().softmax(-1).cumsum(-1)
    # Below the total, however it was rounded, so that the first place above it has a probability that is not zero.
    wanted = chances.clamp(max=1 - 1e-12) * reached[:, -1]
    place = torch.searchsorted(reached, wanted[:, None], right=True).clamp(max=scores.shape[1] - 1)
    return ids.gather(1, place)[:, 0]


def divide(scores: Tensor, temperature: Tensor) -> Tensor:
    """Divide scores by the temperature, with the best of each row moved to 0, so that nothing becomes infinite.

    scores: [B, V]; temperature: [B] -> [B, V].
    """
    best = scores.amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)  # a row may allow nothing
    return (scores - best) / temperature[:, None]


def compact(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores that top-k has left, in the order of their ids, and the ids: [B, V] -> [B, C], [B, C].

    Its only use is that a large vocabulary does not cost more than the model.
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
    """Keep only the top_k best scores of each row, or all for 0.

    scores: [B, V]; top_k: [B] -> [B, V].
    """
    limits = top_k.clamp(max=scores.shape[1])
    most = int(limits.max())
    if not most:
        return scores
    best = scores.topk(most).values
    least = best.gather(1, (limits - 1).clamp(min=0)[:, None])
    return scores.masked_fill((scores < least) & (limits > 0)[:, None], -torch.inf)


def keep_top_p(scores: Tensor, top_p: Tensor) -> Tensor:
    """Keep, in each row, the fewest best scores whose probabilities add up to top_p.

    scores: [B, V]; top_p: [B] -> [B, V]. A row is sorted whole, which costs much, only where many scores are kept, or
    rounding decides.
    """
    cut = (top_p < 1).nonzero()[:, 0]
    if not len(cut):
        return scores
    rows = scores if len(cut) == len(scores) else scores[cut]
    found, sure = least_of_best(rows, top_p[cut])
    unsure = (~sure).nonzero()[:, 0]
    if len(unsure):
        found.index_copy_(0, unsure, least_of_all(rows[unsure], top_p[cut[unsure]]))
    least = scores.new_full((len(scores), 1), -torch.inf).index_copy(0, cut, found)
    return scores.masked_fill(scores < least, -torch.inf)


def least_of_best(rows: Tensor, top_p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest score kept, and whether that is sure, from the best scores alone.

    rows: [C, V]; top_p: [C] -> [C, 1], [C].
    """
    best = rows.topk(min(_BEST, rows.shape[1])).values.double()
    odds = (best - rows.logsumexp(-1, keepdim=True)).exp()
    above = odds.cumsum(-1)[:, :-1] - top_p[:, None]  # including each of them, and so the sum before the next one
    last = (above < 0).sum(-1, keepdim=True)
    sure = (above[:, -1:] > 0).any(-1) & (above.abs() > _ROUNDING).all(-1)
    return best.gather(1, last).to(rows.dtype), sure


def least_of_all(rows: Tensor, top_p: Tensor) -> Tensor:
    """Return the smallest score kept, as transformers finds it.

    rows: [C, V]; top_p: [C] -> [C, 1].
    """
    ascending = rows.sort(-1).values
    beyond = ascending.softmax(-1).cumsum(-1) <= 1 - top_p[:, None]
    beyond[:, -1] = False
    return ascending.gather(1, beyond.sum(-1, keepdim=True))
