"""Define MPNet (arXiv 2004.09297): BERT's layers, with a bias by how far apart two tokens stand.

T tokens of n texts, H hidden size, h heads, L tokens of the longest text. The bias is T5's (arXiv 1910.10683, 2.1): a
number for each head and each bucket of distances, shared by all layers.
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
from bertstream.workers.models.fused import FeedForward, LinearAddNorm, Projection
from bertstream.workers.models.pooling import Pooler
from bertstream.workers.models.positions import places_after_padding
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import EncoderShape, Operators

# transformers' code fixes these values, whatever config.json says.
PAD = 1  # positions start after it
BUCKETS = 32  # of distances
FAR = 128  # tokens; all distances from here on are in the last bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class MPNetShape(EncoderShape):
    """Hold the sizes and switches of an MPNet."""

    COUNTS: ClassVar[Mapping[str, int]] = {
        **EncoderShape.COUNTS,
        "intermediate_size": 1 << 20,
        "positions": 1 << 24,
        "buckets": 1 << 16,
    }

    intermediate_size: int
    positions: int  # rows of the position table; texts use those after PAD
    activation: str
    buckets: int  # rows of the bias table, the first 32 of which are read

    def __post_init__(self) -> None:
        if self.buckets < BUCKETS:
            raise ValueError(f"relative_attention_num_buckets must be at least {BUCKETS}, not {self.buckets}")
        if self.max_tokens < 1:
            raise ValueError(f"max_position_embeddings {self.positions} leaves no positions")

    @property
    def max_tokens(self) -> int:
        """Return the length of the longest text that the position table allows."""
        return self.positions - (PAD + 1)


def buckets_of(distances: Tensor, buckets: int = BUCKETS, far: int = FAR) -> Tensor:
    """Return the bucket of each distance, which is how far a key stands after its query.

    int64 -> int64. Half of the buckets are for keys after the query. In each half, half of the buckets hold one
    distance each, and the others more and more.
    """
    half = buckets // 2
    exact = half // 2
    after = (distances > 0).to(torch.int64) * half
    size = distances.abs()
    # Step by step as in transformers, since rounding decides.
    steps = torch.log(size.to(torch.float32) / exact) / math.log(far / exact) * (half - exact)
    large = (exact + steps.to(torch.int64)).clamp(max=half - 1)
    return after + torch.where(size < exact, size, large)


class MPNetEmbeddings(nn.Module):
    """Compute layer 0 from token ids."""

    __constants__ = ("pad",)

    def __init__(self, shape: MPNetShape) -> None:
        super().__init__()
        self.pad = PAD
        self.word = nn.Embedding(shape.vocabulary_size, shape.hidden_size)
        self.position = nn.Embedding(shape.positions, shape.hidden_size)
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(self, ids: Tensor, type_ids: Optional[Tensor], where: Segments) -> Tensor:  # noqa: UP045
        """Embed texts laid end to end; there are no segments.

        ids: [T] -> [T, H].
        """
        return self.norm(self.word(ids) + self.position(places_after_padding(ids, self.pad, where)))


class MPNetLayer(nn.Module):
    """Compute attention with the bias, then the two-layer network, each with residual and norm (post-norm)."""

    def __init__(self, shape: MPNetShape, operators: Operators) -> None:
        super().__init__()
        hidden, eps = shape.hidden_size, shape.layer_norm_eps
        self.query_key_value = Projection(hidden, operators)
        self.attention = Attention(hidden, shape.attention_heads, operators, biased=True)
        self.attention_output = LinearAddNorm(hidden, hidden, eps, operators)
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
        return self.feed_forward(x), weights


class MPNetEncoder(Encoder):
    """Stack embeddings, layers, pooler, and the table of the bias."""

    __constants__ = ("any_lengths", "has_pooler", "native")

    def __init__(self, shape: MPNetShape, operators: Operators) -> None:
        layers = [MPNetLayer(shape, operators) for _ in range(shape.layers)]
        pooler = Pooler(shape.hidden_size, operators) if shape.has_pooler else None
        super().__init__(MPNetEmbeddings(shape), layers, pooler, any_lengths=layers[0].attention.any_lengths)
        self.relative_bias = nn.Embedding(shape.buckets, shape.attention_heads)
        self.native = layers[0].attention.native

    def shared(self, where: Segments) -> BiasedSegments:
        """Look up the bias of all distances that occur."""
        distances = torch.arange(1 - where.longest, where.longest, device=where.starts.device)
        by_distance = self.relative_bias(buckets_of(distances))  # [2L - 1, h]
        return BiasedSegments(where, distance_bias(by_distance, self.native))
