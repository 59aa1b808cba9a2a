"""Where texts lie in a packed batch: T tokens of n texts, end to end."""

from __future__ import annotations

# TorchScript reads these annotations, and knows the old spellings only.
from typing import List, NamedTuple, Tuple  # noqa: UP035

import torch
from torch import Tensor


class Segments(NamedTuple):
    """Computed once a batch, used by every layer."""

    lengths: Tensor  # [n] int64
    starts: Tensor  # [n] int64, the first token of each text
    cu_seqlens: Tensor  # [n + 1] int32, as flash attention takes it
    longest: int
    runs: List[Tuple[int, int, int]]  # noqa: UP006  # (first token, texts, tokens a text): neighbours of equal length


def equal_length_runs(lengths: List[int]) -> List[Tuple[int, int, int]]:  # noqa: UP006
    """Neighbouring texts of equal length, as (first token, texts, tokens a text)."""
    runs: List[Tuple[int, int, int]] = []  # noqa: UP006
    first = 0
    texts = 0
    for i in range(len(lengths)):
        texts += 1
        if i + 1 == len(lengths) or lengths[i + 1] != lengths[i]:
            runs.append((first, texts, lengths[i]))
            first += texts * lengths[i]
            texts = 0
    return runs


def segments(lengths: List[int], device: torch.device) -> Segments:  # noqa: UP006
    """Lay out texts of these `lengths`, each at least 1."""
    sizes = torch.tensor(lengths, dtype=torch.int64)
    ends = sizes.cumsum(0)
    cu_seqlens = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    cu_seqlens[1:] = ends
    return Segments(
        sizes.to(device), (ends - sizes).to(device), cu_seqlens.to(device), max(lengths), equal_length_runs(lengths)
    )


def spread(values: Tensor, segments: Segments, tokens: int) -> Tensor:
    """Repeat each text's value for each of its tokens. values: [n] -> [T]"""
    return torch.repeat_interleave(values, segments.lengths, output_size=tokens)
