"""One vector a text from its token states. Sums are in float32, and so are the answers, whatever the states are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bertstream.workers.models.segments import Segments


class Pooler(nn.Module):
    """The model's own: the first token through dense and tanh."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        """first: [n, H] -> [n, H]"""
        return torch.tanh(self.dense(first))


# A mode is a function of the states [T, H] of texts that lie where `segments` says, which gives [n, H] float32.
# skipped: how many tokens of each text went before the first that is here.


def cls(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Take each text's first token."""
    return states[segments.starts].to(torch.float32)


def last_token(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Take each text's last token."""
    return states[segments.starts + segments.lengths - 1].to(torch.float32)


def largest(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Take the greatest number of each dimension."""
    return by_runs(states, segments, True).to(torch.float32)


def mean(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Divide the sum by the number of tokens."""
    return by_runs(states, segments, False) / sizes(segments)


def mean_sqrt_len(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Divide the sum by the root of the number of tokens."""
    return by_runs(states, segments, False) / sizes(segments).sqrt()


def weighted_mean(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Weigh tokens by their numbers in the text, from 1, where those that are skipped count."""
    weighted = states.to(torch.float32) * weights_by_place(states, segments, skipped)
    size = sizes(segments)
    return by_runs(weighted, segments, False) / (size * ((size + 1.0) / 2.0 + skipped))


# By the names in contract.PoolingMode. What reads weights besides the states, Model has: "pooler" and "checkpoint".
POOLINGS: Mapping[str, Callable[[Tensor, Segments, int], Tensor]] = {
    "cls": cls,
    "mean": mean,
    "max": largest,
    "mean_sqrt_len": mean_sqrt_len,
    "weighted_mean": weighted_mean,
    "last_token": last_token,
}


class Pooling(nn.Module):
    """One of POOLINGS, as TorchScript can hold it."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.function = POOLINGS[mode]

    def forward(self, states: Tensor, where: Segments, skipped: int) -> Tensor:
        """states: [T, H] -> [n, H] float32"""
        return self.function(states, where, skipped)


def sizes(segments: Segments) -> Tensor:
    """Count the tokens of each text, [n, 1] float32."""
    return segments.lengths.to(torch.float32).unsqueeze(1)


def weights_by_place(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Return a token's number in its text, from 1. states: [T, H] -> [T, 1] float32. Looks at no value."""
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
