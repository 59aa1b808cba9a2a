"""One vector a text from its token states. Sums are in float32, and so are the answers, whatever the states are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bertstream.workers.models.segments import Segments

MODES = ("cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token", "pooler")


class Pooler(nn.Module):
    """The model's own: the first token through dense and tanh."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        """first: [n, H] -> [n, H]"""
        return torch.tanh(self.dense(first))


def pool_rows(states: Tensor, segments: Segments, mode: str, skipped: int) -> Tensor:
    """states: [T, H] -> [n, H] float32, by any mode but "pooler".

    skipped: how many tokens of each text went before the first that is here, for the weights of "weighted_mean".
    """
    if mode == "cls":
        return states[segments.starts].to(torch.float32)
    if mode == "last_token":
        return states[segments.starts + segments.lengths - 1].to(torch.float32)
    if mode == "max":
        return by_runs(states, segments, True).to(torch.float32)
    sizes = segments.lengths.to(torch.float32).unsqueeze(1)  # [n, 1]
    if mode == "weighted_mean":
        weighted = states.to(torch.float32) * weights_by_place(states, segments, skipped)
        return by_runs(weighted, segments, False) / (sizes * ((sizes + 1.0) / 2.0 + skipped))
    sums = by_runs(states, segments, False)
    return sums / (sizes if mode == "mean" else sizes.sqrt())


def weights_by_place(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """A token's number in its text, from 1. states: [T, H] -> [T, 1] float32. Looks at no value."""
    tokens = torch.arange(states.size(0), dtype=segments.cu_seqlens.dtype, device=states.device)
    texts = torch.bucketize(tokens, segments.cu_seqlens[1:], right=True).clamp(max=segments.starts.size(0) - 1)
    return (tokens - segments.starts[texts] + (1 + skipped)).to(torch.float32).unsqueeze(1)


def by_runs(states: Tensor, segments: Segments, largest: bool) -> Tensor:
    """Sum or maximum of each text. states: [T, H] -> [n, H]"""
    if states.is_cuda or len(segments.runs) == 0:
        return by_offsets(states, segments.cu_seqlens, largest)
    dtype = states.dtype if largest else torch.float32
    pooled = torch.empty([segments.lengths.size(0), states.size(1)], dtype=dtype, device=states.device)
    done = 0
    for first, texts, length in segments.runs:
        rows = states[first : first + texts * length].view(texts, length, -1)
        run = pooled[done : done + texts]
        if largest:
            run.copy_(rows.amax(1))
        else:
            run.copy_(rows.sum(1, dtype=torch.float32))
        done += texts
    return pooled


def by_offsets(states: Tensor, cu_seqlens: Tensor, largest: bool) -> Tensor:
    """by_runs by one kernel, where a launch for each length there is would take longer than the sums.

    Looks at no value, and adds the tokens of a text one after the other, whatever texts are beside it.
    """
    if largest:
        return torch.segment_reduce(states, "max", offsets=cu_seqlens, unsafe=True)
    return torch.segment_reduce(states.to(torch.float32), "sum", offsets=cu_seqlens, unsafe=True)
