"""Texts whose last tokens attend to the others, and are not attended to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bertstream.workers.models.attention import Attention, distance_bias, square
from bertstream.workers.models.segments import segments, segments_with_tails
from bertstream.workers.models.shape import Operators

HIDDEN, HEADS = 24, 3
LENGTHS, ATTENDED = [9, 9, 6, 4, 1], [9, 3, 6, 1, 1]


def by_hand(qkv: Tensor, distances: Tensor | None) -> Tensor:
    """Attend with a mask, text by text."""
    found = []
    for rows, attended in zip(qkv.split(LENGTHS), ATTENDED, strict=True):
        q, k, v = rows.view(len(rows), 3, HEADS, -1).permute(1, 2, 0, 3)
        scores = q @ k.transpose(1, 2) / math.sqrt(HIDDEN // HEADS)
        if distances is not None:
            scores = scores + square(distances.t(), len(rows))
        scores[:, :, attended:] = -math.inf
        found.append((scores.softmax(-1) @ v).transpose(0, 1).reshape(len(rows), HIDDEN))
    return torch.cat(found)


@pytest.mark.parametrize("biased", [False, True])
def test_tails_see_and_are_not_seen(biased: bool) -> None:
    torch.manual_seed(3)
    qkv, bias = torch.randn(sum(LENGTHS), 3 * HIDDEN), torch.randn(3 * HIDDEN)
    distances = torch.randn(2 * max(LENGTHS) - 1, HEADS) if biased else None
    attention = Attention(HIDDEN, HEADS, Operators(), biased=biased)
    where = segments_with_tails(LENGTHS, ATTENDED, torch.device("cpu"))
    laid_out = None if distances is None else distance_bias(distances, attention.native)
    found = attention(qkv, bias, where, laid_out)
    torch.testing.assert_close(found, by_hand(qkv + bias, distances), atol=1e-5, rtol=1e-5)
    whole = attention(qkv, bias, segments(LENGTHS, torch.device("cpu")), laid_out)
    for text in (0, 2, 4):  # those without a tail have the same bits as alone
        assert torch.equal(found.split(LENGTHS)[text], whole.split(LENGTHS)[text])
