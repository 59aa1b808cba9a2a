"""Compute attention over packed tokens, the only part of an encoder that knows where a text ends.

T tokens, H hidden size, h heads of D.
"""

from __future__ import annotations

import math

# TorchScript reads these annotations, and knows only the old spellings.
from typing import List, NamedTuple, Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import Operators

QUERIES = 128  # of a text, that ATen attends for at once where they see a window of keys alone


class Wanted(NamedTuple):
    """Name the texts and heads whose attention weights are wanted, which the fast kernels do not keep."""

    groups: List[Tuple[int, int, int]]  # noqa: UP006  # (first token, texts, tokens a text) of neighbours of equal length
    heads: Tensor  # [w] int64


def wanted_weights(texts: List[int], heads: List[int], lengths: List[int], device: torch.device) -> Wanted:  # noqa: UP006
    """Group the wanted `texts`, given by their places among all `lengths`, keeping their order."""
    groups: List[Tuple[int, int, int]] = []  # noqa: UP006
    starts: List[int] = [0]  # noqa: UP006
    if len(texts) > 0:
        for length in lengths:
            starts.append(starts[-1] + length)
    size = 0
    for i in range(len(texts)):
        size += 1
        text = texts[i]
        if i + 1 == len(texts) or texts[i + 1] != text + 1 or lengths[texts[i + 1]] != lengths[text]:
            groups.append((starts[text + 1 - size], size, lengths[text]))
            size = 0
    return Wanted(groups, torch.tensor(heads, dtype=torch.int64, device=device))


def distance_bias(by_distance: Tensor, native: bool) -> Tensor:
    """Lay out, once a batch, what is added to scores for how far a key stands after its query.

    by_distance: [2L - 1, h], for distances from 1 - L to L - 1, where L is the longest text's tokens. native: as
    Attention has it -> [h, 2L - 1] float32 where native, else [h, L, L], for every query and key.
    """
    rows = by_distance.t()
    return rows.to(torch.float32).contiguous() if native else square(rows, rows.size(1) // 2 + 1)


def square(rows: Tensor, tokens: int) -> Tensor:
    """Lay out a bias by distance for every query and key of a text.

    rows: [h, 2L - 1] -> [h, tokens, tokens].
    """
    places = torch.arange(tokens, device=rows.device)
    return rows[:, places - places.unsqueeze(1) + rows.size(1) // 2]


def window_mask(first: int, last: int, low: int, high: int, window: int, device: torch.device) -> Tensor:
    """Return which keys, from `low` to before `high`, each query, from `first` to before `last`, sees.

    A query sees keys that are at most `window` tokens away -> bool [last - first, high - low].
    """
    keys = torch.arange(low, high, device=device)
    return (keys - torch.arange(first, last, device=device).unsqueeze(1)).abs() <= window


class BiasedSegments(NamedTuple):
    """Hold what layers with a bias by distance take besides the states."""

    where: Segments
    bias: Tensor  # as distance_bias makes it


class Attention(nn.Module):
    """Compute softmax(q k' / sqrt(D) + bias by distance) v within each text, without padding.

    Only a decoder's has a mask. For `biased` layers each batch brings the bias by distance, which neither our kernels
    on GPUs nor flash attention support. With a `window`, a query sees the keys at most so many tokens before or after
    it.
    """

    __constants__ = ("causal", "flash", "has_window", "head_size", "heads", "native", "queries", "window")

    def __init__(
        self,
        hidden_size: int,
        heads: int,
        operators: Operators,
        *,
        causal: bool = False,
        biased: bool = False,
        window: int | None = None,
    ) -> None:
        super().__init__()
        if window is not None and (causal or biased):
            raise ValueError("attention within a window has neither a direction nor a bias")
        self.causal = causal
        self.has_window = window is not None
        self.window = -1 if window is None else window
        self.queries = QUERIES
        self.heads = heads
        self.head_size = hidden_size // heads
        self.native = operators.native and not operators.flash  # flash attention is faster where it can be used
        taken = self.head_size % 8 == 0 and self.head_size <= 256 and not biased  # by the kernel of flash attention
        self.flash = operators.flash and taken
        self.any_lengths = self.native or self.flash

    def forward(
        self,
        qkv: Tensor,
        bias: Optional[Tensor],  # noqa: UP045
        segments: Segments,
        distances: Optional[Tensor] = None,  # noqa: UP045
    ) -> Tensor:
        """Attend within each text. qkv: [T, 3H] -> [T, H].

        bias: [3H], to be added to qkv first, which in C++ is part of the same pass. distances: of `biased` layers, as
        distance_bias makes it.
        """
        context = self.within(qkv, bias, segments, distances)
        if len(segments.tails) > 0:
            self.attend_with_tails(context, qkv if bias is None else qkv + bias, segments, distances)
        return context

    def within(
        self,
        qkv: Tensor,
        bias: Optional[Tensor],  # noqa: UP045
        segments: Segments,
        distances: Optional[Tensor],  # noqa: UP045
    ) -> Tensor:
        """Attend from each token to all of its text, as forward does where there are no tails."""
        if self.native:
            return torch.ops.bertstream.attention(
                qkv, bias, segments.cu_seqlens, self.heads, self.causal, distances, self.window
            )
        if bias is not None:
            qkv = qkv + bias
        if self.flash:
            return self.packed(qkv, segments)
        return self.by_runs(qkv, segments, distances)

    def attend_with_tails(
        self,
        context: Tensor,
        qkv: Tensor,
        segments: Segments,
        distances: Optional[Tensor],  # noqa: UP045
    ) -> None:
        """Write anew what the tokens of texts with tails attend to: the text's first tokens alone.

        context: [T, H]; qkv: [T, 3H]. Such texts are queries of some 32 tokens, so each is computed by itself.
        """
        for first, length, attended in segments.tails:
            rows = qkv[first : first + length].view(1, length, 3, self.heads, self.head_size)
            q, k, v = rows.permute(2, 0, 3, 1, 4).unbind(0)  # each [1, h, length, D]
            added = self.bias_of(length, distances)
            if added is not None:
                added = added[:, :, :attended].to(q.dtype).unsqueeze(0)
            elif self.has_window:
                added = window_mask(0, length, 0, attended, self.window, q.device)
            found = functional.scaled_dot_product_attention(q, k[:, :, :attended], v[:, :, :attended], attn_mask=added)
            context[first : first + length] = found.squeeze(0).transpose(0, 1).reshape(length, -1)

    def bias_of(self, length: int, distances: Optional[Tensor]) -> Optional[Tensor]:  # noqa: UP045
        """Return what is added to the scores of a text of this length, [h, length, length]."""
        if distances is None:
            return None
        return square(distances, length) if self.native else distances[:, :length, :length]

    def packed(self, qkv: Tensor, segments: Segments) -> Tensor:
        """Attend by CUDA's kernel for texts of any lengths.

        qkv: [T, 3H] -> [T, H].
        """
        q, k, v = qkv.view(-1, 3, self.heads, self.head_size).unbind(1)  # each [T, h, D]
        cu, longest, window = segments.cu_seqlens, segments.longest, self.window
        # Its window is -1 for all keys, too.
        context = torch.ops.aten._flash_attention_forward(
            q,
            k,
            v,
            cu,
            cu,
            longest,
            longest,
            0.0,
            self.causal,
            False,
            window_size_left=window,
            window_size_right=window,
        )[0]
        return context.reshape(-1, self.heads * self.head_size)

    def by_runs(self, qkv: Tensor, segments: Segments, squares: Optional[Tensor]) -> Tensor:  # noqa: UP045
        """Attend to each run of texts of equal length as a dense batch, which is a view.

        qkv: [T, 3H]; squares: [h, L, L] -> [T, H].
        """
        context = torch.empty([qkv.size(0), self.heads * self.head_size], dtype=qkv.dtype, device=qkv.device)
        for first, texts, length in segments.runs:
            rows = qkv[first : first + texts * length]
            q, k, v = rows.view(texts, length, 3, self.heads, self.head_size).permute(2, 0, 3, 1, 4).unbind(0)
            added = None if squares is None else squares[:, :length, :length].unsqueeze(0)
            # [texts, h, length, D]
            if self.has_window:
                found = self.within_window(q, k, v)
            else:
                found = functional.scaled_dot_product_attention(q, k, v, attn_mask=added, is_causal=self.causal)
            run = context[first : first + texts * length].view(texts, length, self.heads, self.head_size)
            run.copy_(found.transpose(1, 2))
        return context

    def within_window(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend for some queries at a time, with the keys that they see, so that no mask is as wide as a text.

        q, k, v: [texts, h, length, D] -> the same.
        """
        length = q.size(2)
        found: List[Tensor] = []  # noqa: UP006
        for first in range(0, length, self.queries):
            last = min(first + self.queries, length)
            low, high = max(first - self.window, 0), min(last + self.window, length)
            mask = window_mask(first, last, low, high, self.window, q.device)
            keys, values = k[:, :, low:high], v[:, :, low:high]
            found.append(functional.scaled_dot_product_attention(q[:, :, first:last], keys, values, attn_mask=mask))
        return torch.cat(found, dim=2)

    def weights(
        self,
        qkv: Tensor,
        bias: Optional[Tensor],  # noqa: UP045
        wanted: Wanted,
        distances: Optional[Tensor] = None,  # noqa: UP045
    ) -> List[Tensor]:  # noqa: UP006
        """Return softmax(q k' / sqrt(D) + distances), [w, n, n] for each wanted text of n tokens.

        Row i is what token i attends to. It is float32 whatever qkv is, as inside the fast kernels. qkv: [T, 3H]; bias:
        [3H], to be added to qkv; distances: as forward takes it.
        """
        found: List[Tensor] = []  # noqa: UP006
        for first, texts, length in wanted.groups:
            rows = qkv[first : first + texts * length]
            if bias is not None:
                rows = rows + bias
            rows = rows.view(texts, length, 3, self.heads, self.head_size)
            q = rows.select(2, 0).index_select(2, wanted.heads).to(torch.float32).transpose(1, 2)  # [texts, w, n, D]
            k = rows.select(2, 1).index_select(2, wanted.heads).to(torch.float32).permute(0, 2, 3, 1)
            scores = torch.matmul(q, k).mul_(self.head_size**-0.5)
            if distances is not None:
                rows = distances.index_select(0, wanted.heads)
                scores = scores + (square(rows, length) if self.native else rows[:, :length, :length])
            if self.has_window:
                seen = window_mask(0, length, 0, length, self.window, qkv.device)
                scores = scores.masked_fill(~seen, -math.inf)
            if self.causal:
                later = torch.ones([length, length], dtype=torch.bool, device=qkv.device).triu(1)
                scores = scores.masked_fill(later, -math.inf)
            found.extend(torch.softmax(scores, -1).unbind(0))
        return found
