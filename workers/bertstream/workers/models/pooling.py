"""Pool token states to one vector a text.

Sums and results are float32, whatever the states are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bertstream.workers.models.linear import Linear
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import Operators


class Pooler(nn.Module):
    """Apply the model's own pooler: a dense layer and tanh on the first token."""

    def __init__(self, hidden_size: int, operators: Operators) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size, operators.beside_layers)

    def forward(self, first: Tensor) -> Tensor:
        """Apply the pooler. first: [n, H] -> [n, H]."""
        return torch.tanh(self.dense(first))


# A mode is a function of the states [T, H] of texts that lie where `segments` says, and returns [n, H] float32.
# skipped: the number of tokens of each text that come before the first one given.


def cls(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Take each text's first token."""
    return states[segments.starts].to(torch.float32)


def last_token(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Take each text's last token."""
    return states[segments.starts + segments.lengths - 1].to(torch.float32)


def largest(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Take the greatest value of each dimension."""
    return by_runs(states, segments, True).to(torch.float32)


def mean(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Divide the sum by the number of tokens."""
    return by_runs(states, segments, False) / sizes(segments)


def mean_sqrt_len(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Divide the sum by the square root of the number of tokens."""
    return by_runs(states, segments, False) / sizes(segments).sqrt()


def weighted_mean(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Weight tokens by their places in the text, from 1, counting those that are skipped."""
    weighted = states.to(torch.float32) * weights_by_place(states, segments, skipped)
    size = sizes(segments)
    return by_runs(weighted, segments, False) / (size * ((size + 1.0) / 2.0 + skipped))


# By the names in contract.PoolingMode. Model adds the two that have weights: "pooler" and "checkpoint".
POOLINGS: Mapping[str, Callable[[Tensor, Segments, int], Tensor]] = {
    "cls": cls,
    "mean": mean,
    "max": largest,
    "mean_sqrt_len": mean_sqrt_len,
    "weighted_mean": weighted_mean,
    "last_token": last_token,
}


class PoolingModule(nn.Module):
    """Hold one of POOLINGS as a module for TorchScript."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.function = POOLINGS[mode]

    def forward(self, states: Tensor, where: Segments, skipped: int) -> Tensor:
        """Pool texts. states: [T, H] -> [n, H] float32."""
        return self.function(states, where, skipped)


def sizes(segments: Segments) -> Tensor:
    """Count the tokens of each text, [n, 1] float32."""
    return segments.lengths.to(torch.float32).unsqueeze(1)


def weights_by_place(states: Tensor, segments: Segments, skipped: int) -> Tensor:
    """Return each token's place in its text, from 1, without reading a value on the device.

    states: [T, H] -> [T, 1] float32.
    """
    tokens = torch.arange(states.size(0), dtype=segments.cu_seqlens.dtype, device=states.device)
    texts = torch.bucketize(tokens, segments.cu_seqlens[1:], right=True).clamp(max=segments.starts.size(0) - 1)
    return (tokens - segments.starts[texts] + (1 + skipped)).to(torch.float32).unsqueeze(1)


def by_runs(states: Tensor, segments: Segments, largest: bool) -> Tensor:
    """Return the sum or maximum of each text.

    states: [T, H] -> [n, H].
    """
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
    """Compute what by_runs does in one kernel, where a launch for each length would take longer than the sums.

    It reads no value on the device. It adds up a text's tokens in order, whatever texts are beside it.
    """
    if largest:
        return torch.segment_reduce(states, "max", offsets=cu_seqlens, unsafe=True)
    return torch.segment_reduce(states.to(torch.float32), "sum", offsets=cu_seqlens, unsafe=True)
