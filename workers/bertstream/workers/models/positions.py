"""Compute where tokens stand in their texts from the lengths, so that positions are never sent."""

from __future__ import annotations

import torch
from torch import Tensor

from bertstream.workers.models.segments import Segments, spread


def places(segments: Segments, tokens: int) -> Tensor:
    """Return each token's place in its text, from 0, as [T]."""
    return torch.arange(tokens, device=segments.starts.device) - spread(segments.starts, segments, tokens)


def places_after_padding(ids: Tensor, pad_token_id: int, segments: Segments) -> Tensor:
    """Count tokens that are not padding, from pad_token_id + 1; a pad id within a text stays at pad_token_id.

    ids: [T] -> [T]. So RoBERTa and its descendants count (arXiv 1907.11692 does not say; fairseq does).
    """
    tokens = ids.size(0)
    real = (ids != pad_token_id).to(torch.int64)  # [T]
    counted = real.cumsum(0)
    before = (counted - real)[segments.starts]  # [n] what earlier texts counted
    return (counted - spread(before, segments, tokens)) * real + pad_token_id
