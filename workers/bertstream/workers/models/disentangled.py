"""Define DeBERTa's disentangled attention (arXiv 2006.03654, 3.1): scores of contents and of positions apart.

T tokens, H hidden size, h heads of D, B buckets of distances, L tokens of the longest text. A score is the sum of up to
three products: query and key, query and the position of the key, the position of the query and key. Positions are
relative, so each layer has a vector for each bucket. They depend on weights alone and are computed when these are
loaded, not in each batch as transformers does.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows only the old spellings.
from typing import TYPE_CHECKING, List, NamedTuple, Optional  # noqa: UP035

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.attention import Wanted
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import Operators


class Positions(NamedTuple):
    """Hold where texts lie, and which bucket each distance is in."""

    where: Segments
    buckets: Tensor  # [2L - 1] int64, of keys from L - 1 tokens before their query to L - 1 tokens after it


class Terms(NamedTuple):
    """Hold the vectors of all distances that occur, of some heads, from keys before their query to keys after it."""

    keys: Optional[Tensor]  # noqa: UP045  # [h, D, 2L - 1]
    queries: Optional[Tensor]  # noqa: UP045  # [h, D, 2L - 1], from keys after their query to keys before it


class DisentangledAttention(nn.Module):
    """Compute softmax((q k' + q k_p' + q_p k') / sqrt(D f)) v within each text, f being the number of products.

    `position_keys` and `position_queries` [h, B, D] are set once weights are loaded, and only where they are used.
    """

    if TYPE_CHECKING:  # TorchScript reads annotations that are there
        position_keys: Tensor
        position_queries: Tensor

    __constants__ = ("has_keys", "has_queries", "head_size", "heads", "native", "scale")

    def __init__(
        self, hidden_size: int, heads: int, operators: Operators, *, has_keys: bool, has_queries: bool, terms: int
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_size = hidden_size // heads
        self.has_keys = has_keys
        self.has_queries = has_queries
        self.scale = float((self.head_size * terms) ** -0.5)
        self.native = operators.native and not operators.flash  # neither flash attention nor our kernels have the terms
        self.any_lengths = self.native

    def place(self, keys: Tensor | None, queries: Tensor | None) -> None:
        """Take the projected vectors of all buckets, [B, H] each, in the type that states have."""
        if keys is not None and self.has_keys:
            self.register_buffer("position_keys", self._by_head(keys))
        if queries is not None and self.has_queries:
            self.register_buffer("position_queries", self._by_head(queries))

    def _by_head(self, rows: Tensor) -> Tensor:
        return rows.view(len(rows), self.heads, self.head_size).transpose(0, 1).contiguous()

    def forward(self, qkv: Tensor, positions: Positions) -> Tensor:
        """Attend within each text. qkv: [T, 3H] -> [T, H]."""
        if self.native:
            return self.by_operator(qkv, positions)
        else:
            return self.by_runs(qkv, positions)

    def by_operator(self, qkv: Tensor, positions: Positions) -> Tensor:
        """Attend to texts of any lengths in C++. qkv: [T, 3H] -> [T, H]."""
        keys: Optional[Tensor] = None  # noqa: UP045
        queries: Optional[Tensor] = None  # noqa: UP045
        if self.has_keys:
            keys = self.position_keys
        if self.has_queries:
            queries = self.position_queries
        return torch.ops.bertstream.disentangled_attention(
            qkv, positions.where.cu_seqlens, self.heads, keys, queries, positions.buckets, self.scale
        )

    def by_runs(self, qkv: Tensor, positions: Positions) -> Tensor:
        """Attend to each run of texts of equal length as a dense batch.

        qkv: [T, 3H] -> [T, H].
        """
        terms = self.terms(positions, torch.arange(self.heads, device=qkv.device))
        context = torch.empty([qkv.size(0), self.heads * self.head_size], dtype=qkv.dtype, device=qkv.device)
        for first, texts, length in positions.where.runs:
            rows = qkv[first : first + texts * length]
            q, k, v = rows.view(texts, length, 3, self.heads, self.head_size).permute(2, 0, 3, 1, 4).unbind(0)
            bias = self.bias(q, k, terms, length)
            found = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
            run = context[first : first + texts * length].view(texts, length, self.heads, self.head_size)
            run.copy_(found.transpose(1, 2))
        return context

    def terms(self, positions: Positions, heads: Tensor) -> Terms:
        """Look up the vectors of all distances, of these heads [w] int64."""
        keys: Optional[Tensor] = None  # noqa: UP045
        queries: Optional[Tensor] = None  # noqa: UP045
        if self.has_keys:
            keys = self.position_keys.index_select(0, heads).index_select(1, positions.buckets).transpose(1, 2)
        if self.has_queries:
            rows = positions.buckets.flip(0)
            queries = self.position_queries.index_select(0, heads).index_select(1, rows).transpose(1, 2)
        return Terms(keys, queries)

    def bias(self, q: Tensor, k: Tensor, terms: Terms, tokens: int) -> Optional[Tensor]:  # noqa: UP045
        """Return what positions add to scores. q, k: [texts, h, tokens, D] -> [texts, h, tokens, tokens]."""
        bias: Optional[Tensor] = None  # noqa: UP045
        keys, queries = terms.keys, terms.queries
        if keys is not None:
            bias = diagonals(torch.matmul(q, middle(keys, tokens)), tokens).mul(self.scale)
        if queries is not None:
            found = diagonals(torch.matmul(k, middle(queries, tokens)), tokens).transpose(-1, -2).mul(self.scale)
            bias = found if bias is None else bias + found
        return bias

    def weights(self, qkv: Tensor, wanted: Wanted, positions: Positions) -> List[Tensor]:  # noqa: UP006
        """Return what each token attends to, [w, n, n] float32 for each wanted text of n tokens.

        qkv: [T, 3H].
        """
        found: List[Tensor] = []  # noqa: UP006
        if len(wanted.groups) == 0:
            return found
        terms = self.terms(positions, wanted.heads)
        keys, queries = terms.keys, terms.queries
        wide = Terms(
            None if keys is None else keys.to(torch.float32), None if queries is None else queries.to(torch.float32)
        )
        for first, texts, length in wanted.groups:
            rows = qkv[first : first + texts * length].view(texts, length, 3, self.heads, self.head_size)
            q = rows.select(2, 0).index_select(2, wanted.heads).to(torch.float32).transpose(1, 2)  # [texts, w, n, D]
            k = rows.select(2, 1).index_select(2, wanted.heads).to(torch.float32).transpose(1, 2)
            scores = torch.matmul(q, k.transpose(-1, -2)).mul_(self.scale)
            bias = self.bias(q, k, wide, length)
            if bias is not None:
                scores = scores + bias
            found.extend(torch.softmax(scores, -1).unbind(0))
        return found


def middle(rows: Tensor, tokens: int) -> Tensor:
    """Return the columns of the distances within a text of so many tokens.

    rows: [h, D, 2L - 1] -> [h, D, 2 tokens - 1].
    """
    return rows.narrow(2, rows.size(2) // 2 + 1 - tokens, 2 * tokens - 1)


def diagonals(scores: Tensor, tokens: int) -> Tensor:
    """Return the scores of each query and key, as a view, from those of each query and distance.

    scores: [texts, h, tokens, 2 tokens - 1] -> [texts, h, tokens, tokens]; key j of query i has the column j - i +
    tokens - 1.
    """
    scores = scores.contiguous()
    texts, heads, columns = scores.size(0), scores.size(1), 2 * tokens - 1
    sizes = [texts, heads, tokens, tokens]
    strides = [heads * tokens * columns, tokens * columns, columns - 1, 1]
    return scores.as_strided(sizes, strides, scores.storage_offset() + tokens - 1)
