"""Define Jina's BERT (arXiv 2310.19923): a bias that grows with distance for positions, and a gated network.

T tokens of n texts, H hidden size, I intermediate size, h heads, L tokens of the longest text. The bias is ALiBi's
(arXiv 2108.12409) on both sides of a query: its size is the distance times the head's slope.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# TorchScript reads these annotations, and knows only the old spellings.
from typing import ClassVar, List, Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor, nn

from bertstream.workers.models.attention import Attention, BiasedSegments, Wanted, distance_bias
from bertstream.workers.models.encoder import Encoder
from bertstream.workers.models.fused import FeedForward, GatedLinear, LinearAddNorm, Projection
from bertstream.workers.models.pooling import Pooler
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import EncoderShape, Operators

ORIGINAL = "original"  # BERT's network
GATES = {"geglu": "gelu", "reglu": "relu"}  # feed_forward_type -> the gate's activation


@dataclass(frozen=True, slots=True, kw_only=True)
class JinaShape(EncoderShape):
    """Hold the sizes and switches of a Jina BERT."""

    COUNTS: ClassVar[Mapping[str, int]] = {**EncoderShape.COUNTS, "intermediate_size": 1 << 20, "positions": 1 << 24}

    intermediate_size: int
    positions: int  # the longest text that it is meant for; there is no table
    activation: str  # of BERT's network
    feed_forward: str  # ORIGINAL, or one of GATES

    def __post_init__(self) -> None:
        if self.feed_forward != ORIGINAL and self.feed_forward not in GATES:
            known = ", ".join((ORIGINAL, *GATES))
            raise ValueError(f"feed_forward_type {self.feed_forward!r:.40} is not supported; these are: {known}")

    @property
    def max_tokens(self) -> int:
        """Return the length of the longest text that it is meant for."""
        return self.positions


def slopes_of(heads: int) -> list[float]:
    """Return how much the bias of each head grows with each token.

    They are a geometric series, from its ratio on, for a power of two. Other numbers of heads have that of the next
    lower one, and then every second number of the next higher one's.
    """
    nearest = 1 << heads.bit_length() - 1
    ratio = 2.0 ** -(2.0 ** (3 - math.log2(nearest)))
    found = [ratio ** (1 + i) for i in range(nearest)]
    return found if heads == nearest else found + slopes_of(2 * nearest)[::2][: heads - nearest]


class JinaEmbeddings(nn.Module):
    """Compute layer 0 from token ids, without positions."""

    def __init__(self, shape: JinaShape) -> None:
        super().__init__()
        self.word = nn.Embedding(shape.vocabulary_size, shape.hidden_size)
        self.token_type = nn.Embedding(shape.type_vocabulary_size, shape.hidden_size)
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(self, ids: Tensor, type_ids: Optional[Tensor], where: Segments) -> Tensor:  # noqa: UP045
        """Embed texts laid end to end.

        ids, type_ids: [T] -> [T, H].
        """
        types = self.token_type(ids.new_zeros(1) if type_ids is None else type_ids)
        return self.norm(self.word(ids) + types)


class GatedFeedForward(nn.Module):
    """Compute (activation(x A') * x B') C' + c, with residual and norm after it (post-norm)."""

    def __init__(self, shape: JinaShape, operators: Operators) -> None:
        super().__init__()
        hidden, size, gate = shape.hidden_size, shape.intermediate_size, GATES[shape.feed_forward]
        self.intermediate = GatedLinear(hidden, size, gate, operators, bias=False)
        self.output = LinearAddNorm(size, hidden, shape.layer_norm_eps, operators)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network. x: [T, H] -> [T, H]."""
        return self.output(self.intermediate(x), x)


class JinaLayer(nn.Module):
    """Compute attention with the bias, then one of the networks, each with residual and norm (post-norm)."""

    __constants__ = ("is_gated",)

    def __init__(self, shape: JinaShape, operators: Operators) -> None:
        super().__init__()
        hidden, eps = shape.hidden_size, shape.layer_norm_eps
        self.query_key_value = Projection(hidden, operators)
        self.attention = Attention(hidden, shape.attention_heads, operators, biased=True)
        self.attention_output = LinearAddNorm(hidden, hidden, eps, operators)
        self.is_gated = shape.feed_forward != ORIGINAL
        if self.is_gated:
            self.gated = GatedFeedForward(shape, operators)
        else:
            self.feed_forward = FeedForward(hidden, shape.intermediate_size, shape.activation, eps, operators)

    def forward(self, x: Tensor, shared: BiasedSegments, wanted: Wanted, whole: bool) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute a layer as Encoder asks for it.

        x: [T, H] -> [T, H].
        """
        if whole:
            return self.run(x, shared, wanted)
        qkv, bias = self.query_key_value.pending(x)
        return x, self.attention.weights(qkv, bias, wanted, shared.bias)

    def run(self, x: Tensor, shared: BiasedSegments, wanted: Wanted) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute the whole layer in one block, since TorchScript holds what an `if` uses until the `if` ends."""
        qkv, bias = self.query_key_value.pending(x)
        weights = self.attention.weights(qkv, bias, wanted, shared.bias)
        x = self.attention_output(self.attention(qkv, bias, shared.where, shared.bias), x)
        if self.is_gated:
            return self.gated(x), weights
        else:
            return self.feed_forward(x), weights


class JinaEncoder(Encoder):
    """Stack embeddings, layers and pooler."""

    __constants__ = ("any_lengths", "has_pooler", "native")

    def __init__(self, shape: JinaShape, operators: Operators) -> None:
        layers = [JinaLayer(shape, operators) for _ in range(shape.layers)]
        pooler = Pooler(shape.hidden_size, operators) if shape.has_pooler else None
        super().__init__(JinaEmbeddings(shape), layers, pooler, any_lengths=layers[0].attention.any_lengths)
        self.slopes = slopes_of(shape.attention_heads)
        self.native = layers[0].attention.native

    def shared(self, where: Segments) -> BiasedSegments:
        """Compute the bias of all distances that occur."""
        device = where.starts.device
        distances = torch.arange(1 - where.longest, where.longest, device=device).abs().unsqueeze(1)
        by_distance = distances * -torch.tensor(self.slopes, dtype=torch.float32, device=device)  # [2L - 1, h]
        return BiasedSegments(where, distance_bias(by_distance.to(self.bias_type()), self.native))

    def bias_type(self) -> torch.dtype:
        """Return the type that attention adds to scores in: our operators add float32."""
        return torch.float32 if self.native else self.words().dtype
