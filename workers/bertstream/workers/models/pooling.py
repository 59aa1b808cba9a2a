"""One vector a text from its token states. Sums are in float32, and so are the answers, whatever the states are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bertstream.workers.models.segments import Segments

MODES = ("cls", "mean", "max", "mean_sqrt_len", "last_token", "pooler")


class Pooler(nn.Module):
    """The model's own: the first token through dense and tanh."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        """first: [n, H] -> [n, H]"""
        return torch.tanh(self.dense(first))


def pool_rows(states: Tensor, segments: Segments, mode: str) -> Tensor:
    """states: [T, H] -> [n, H] float32, by any mode but "pooler"."""
    if mode == "cls":
        return states[segments.starts].to(torch.float32)
    if mode == "last_token":
        return states[segments.starts + segments.lengths - 1].to(torch.float32)
    if mode == "max":
        return by_runs(states, segments, True).to(torch.float32)
    sums = by_runs(states, segments, False)
    sizes = segments.lengths.to(torch.float32).unsqueeze(1)  # [n, 1]
    return sums / (sizes if mode == "mean" else sizes.sqrt())


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
