"""Describe where texts lie in a packed batch: T tokens of n texts, end to end."""

from __future__ import annotations

# TorchScript reads these annotations, and knows only the old spellings.
from typing import List, NamedTuple, Tuple  # noqa: UP035

import torch
from torch import Tensor


class Segments(NamedTuple):
    """Hold where texts lie, computed once a batch and used by every layer."""

    lengths: Tensor  # [n] int64
    starts: Tensor  # [n] int64, the first token of each text
    cu_seqlens: Tensor  # [n + 1] int32, as flash attention takes it
    longest: int
    tokens: int  # T
    runs: List[Tuple[int, int, int]]  # noqa: UP006  # (first token, texts, tokens a text) of neighbours of equal length
    # (first token, tokens, those that are attended to) of texts whose last tokens attend, and are not attended to.
    tails: List[Tuple[int, int, int]]  # noqa: UP006


def equal_length_runs(lengths: List[int]) -> List[Tuple[int, int, int]]:  # noqa: UP006
    """Return runs of neighbouring texts of equal length, as (first token, texts, tokens a text)."""
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
    if device.type == "cuda":
        return on_cuda(lengths, device)
    sizes = torch.tensor(lengths, dtype=torch.int64)
    ends = sizes.cumsum(0)
    cu_seqlens = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    cu_seqlens[1:] = ends
    runs, tails = equal_length_runs(lengths), no_tails()
    starts = (ends - sizes).to(device)
    return Segments(sizes.to(device), starts, cu_seqlens.to(device), max(lengths), sum(lengths), runs, tails)


def segments_with_tails(lengths: List[int], attended: List[int], device: torch.device) -> Segments:  # noqa: UP006
    """Lay out texts of which only the first `attended` tokens are attended to, each from 1 to the text's length."""
    where = segments(lengths, device)
    tails = no_tails()
    first = 0
    for length, seen in zip(lengths, attended):  # noqa: B905  # TorchScript knows no `strict`
        if seen < length:
            tails.append((first, length, seen))
        first += length
    return Segments(where.lengths, where.starts, where.cu_seqlens, where.longest, where.tokens, where.runs, tails)


def no_tails() -> List[Tuple[int, int, int]]:  # noqa: UP006
    """Return an empty list, of a type that TorchScript knows."""
    tails: List[Tuple[int, int, int]] = []  # noqa: UP006
    return tails


def on_cuda(lengths: List[int], device: torch.device) -> Segments:  # noqa: UP006
    """Lay out texts by one copy from pinned memory, which is not waited for; the rest is computed on the GPU."""
    cu_seqlens = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    cu_seqlens[1:] = torch.tensor(lengths, dtype=torch.int64).cumsum(0)
    there = cu_seqlens.pin_memory().to(device, non_blocking=True)
    starts = there[:-1].to(torch.int64)
    runs, tails = equal_length_runs(lengths), no_tails()
    return Segments(there[1:].to(torch.int64) - starts, starts, there, max(lengths), sum(lengths), runs, tails)


def segments_at(cu_seqlens: Tensor, tokens: int, longest: int) -> Segments:
    """Lay out texts that start where `cu_seqlens` [n + 1] says, of at most `longest` tokens or none, without runs.

    It reads no value on the device, so that a CUDA graph can record it. A text without tokens at the end starts at the
    last token, since something may be looked up there.
    """
    ends = cu_seqlens.to(torch.int64)
    runs: List[Tuple[int, int, int]] = []  # noqa: UP006
    starts = ends[:-1].clamp(max=tokens - 1)
    return Segments(ends[1:] - ends[:-1], starts, cu_seqlens, longest, tokens, runs, no_tails())


def spread(values: Tensor, segments: Segments, tokens: int) -> Tensor:
    """Repeat each text's value for each of its tokens.

    values: [n] -> [T].
    """
    return torch.repeat_interleave(values, segments.lengths, output_size=tokens)
