"""Define DeBERTa from its second version on (arXiv 2006.03654, 2111.09543): BERT's layers with disentangled attention.

T tokens, H hidden size, E embedding size, L tokens of the longest text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# TorchScript reads these annotations, and knows only the old spellings.
from typing import Any, ClassVar, List, Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.activations import SUPPORTED, Activation
from bertstream.workers.models.attention import Wanted
from bertstream.workers.models.disentangled import DisentangledAttention, Positions
from bertstream.workers.models.encoder import Encoder
from bertstream.workers.models.fused import FeedForward, LinearAddNorm, Projection
from bertstream.workers.models.linear import Linear
from bertstream.workers.models.positions import places
from bertstream.workers.models.segments import Segments, spread
from bertstream.workers.models.shape import EncoderShape, Operators

KEYS, QUERIES = "c2p", "p2c"  # the products with a key's and with a query's position, as config.json names them
_NORM = "layer_norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class DebertaShape(EncoderShape):
    """Hold the sizes and switches of a DeBERTa, by transformers' defaults where config.json may leave them out."""

    TAILS: ClassVar[bool] = False
    COUNTS: ClassVar[Mapping[str, int]] = {
        **{name: most for name, most in EncoderShape.COUNTS.items() if name != "type_vocabulary_size"},
        "intermediate_size": 1 << 20,
        "positions": 1 << 24,
    }

    intermediate_size: int
    positions: int  # rows of the position table, where there is one
    activation: str
    has_positions: bool = True  # whether the place of a token is part of its embedding
    relative_attention: bool = False
    products: Sequence[str] | str | None = None  # with relative positions: KEYS, QUERIES, or both
    buckets: int = -1  # on each side of a query; below 1 for one each distance
    farthest: int = -1  # all distances from here on are one; below 1 for the number of positions
    shares_projections: bool = False  # positions are projected as tokens are
    relative_norm: str = "none"  # what is done to the vectors of relative positions, joined by "|"
    attention_head_size: int | None = None
    pooler_size: int | None = None  # of what heads make of the first token
    kernel: int = 0  # of the convolution beside the first layer; 0 for none
    kernel_groups: int = 1
    kernel_activation: str = "tanh"

    def __post_init__(self) -> None:
        _check_types(self)
        if unknown := [name for name in self.terms if name not in (KEYS, QUERIES)]:
            raise ValueError(f"pos_att_type {unknown[0]!r:.40} is not one of {KEYS}, {QUERIES}")
        if self.relative_attention and (self.buckets == 1 or self.span > self.COUNTS["positions"]):
            raise ValueError("position_buckets and max_relative_positions must leave from 2 to 16,777,216 distances")
        if self.attention_head_size not in (None, self.hidden_size // self.attention_heads):
            raise ValueError("attention_head_size must be hidden_size / num_attention_heads")
        if self.pooler_size not in (None, self.hidden_size):
            raise ValueError("pooler_hidden_size must be hidden_size")
        if self.kernel < 0 or (self.kernel and (self.kernel % 2 == 0 or self.kernel > self.positions)):
            raise ValueError(f"conv_kernel_size must be odd, or 0, not {self.kernel}")
        if self.kernel and self.kernel_groups != 1:
            raise ValueError(f"conv_groups = {self.kernel_groups} is not supported; 1 is")
        if self.kernel and self.kernel_activation not in SUPPORTED:
            raise ValueError(
                f"conv_act {self.kernel_activation!r:.40} is not supported; these are: {', '.join(SUPPORTED)}"
            )

    @property
    def max_tokens(self) -> int:
        """Return the length of the longest text, which relative positions alone do not bound."""
        return self.positions

    @property
    def terms(self) -> tuple[str, ...]:
        """Return the products with relative positions."""
        given = self.products or ()
        names = given.lower().split("|") if isinstance(given, str) else given
        return tuple(name.strip() for name in names)

    @property
    def reach(self) -> int:
        """Return the distance from which on all are one."""
        return self.farthest if self.farthest > 0 else self.positions

    @property
    def span(self) -> int:
        """Return the number of buckets on each side of a query."""
        return self.buckets if self.buckets > 0 else self.reach

    @property
    def normalizes(self) -> bool:
        """Return whether the vectors of relative positions are normalised."""
        return _NORM in [name.strip() for name in self.relative_norm.lower().split("|")]


def _check_types(shape: DebertaShape) -> None:
    whole: dict[str, Any] = {
        "type_vocab_size": shape.type_vocabulary_size,
        "position_buckets": shape.buckets,
        "max_relative_positions": shape.farthest,
        "conv_kernel_size": shape.kernel,
        "conv_groups": shape.kernel_groups,
    }
    for name, value in whole.items():
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 1 << 24:
            raise ValueError(f"{name} must be a whole number, not {value!r:.40}")
    if not 0 <= shape.type_vocabulary_size <= 1 << 16:
        raise ValueError(f"type_vocab_size must be from 0 to 65,536, not {shape.type_vocabulary_size}")
    given: Any = shape.products
    if not isinstance(given, str | None) and not (isinstance(given, list) and all(isinstance(x, str) for x in given)):
        raise ValueError(f"pos_att_type must be a list of names, not {given!r:.40}")
    if not isinstance(shape.relative_norm, str):
        raise ValueError(f"norm_rel_ebd must be a name, not {shape.relative_norm!r:.40}")


def buckets_of(distances: Tensor, buckets: int, reach: int) -> Tensor:
    """Return the bucket of each distance, which is how far a query stands after its key.

    int64 -> int64, of the same sign. Those nearer than half of the buckets have one each, and the others share more and
    more.
    """
    if buckets < 1:
        return distances
    exact = buckets // 2
    # Step by step as in transformers, since rounding decides.
    size = torch.where((distances < exact) & (distances > -exact), exact - 1, distances.abs())
    farthest = torch.log(torch.tensor((reach - 1) / exact, device=distances.device))
    steps = torch.ceil(torch.log(size / exact) / farthest * (exact - 1)) + exact
    return torch.where(size <= exact, distances.to(steps.dtype), steps * distances.sign()).to(torch.int64)


class DebertaEmbeddings(nn.Module):
    """Compute layer 0 from token ids: the norm comes after the projection."""

    __constants__ = ("has_positions", "has_projection", "has_types")

    def __init__(self, shape: DebertaShape, operators: Operators) -> None:
        super().__init__()
        size, types = shape.embedding_size, shape.type_vocabulary_size
        self.has_positions = shape.has_positions
        self.has_types = types > 0
        self.has_projection = size != shape.hidden_size
        self.word = nn.Embedding(shape.vocabulary_size, size)
        self.position = nn.Embedding(shape.positions, size) if self.has_positions else nn.Identity()
        self.token_type = nn.Embedding(types, size) if self.has_types else nn.Identity()
        own = operators.beside_layers
        self.projection = Linear(size, shape.hidden_size, own, bias=False) if self.has_projection else nn.Identity()
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(self, ids: Tensor, type_ids: Optional[Tensor], where: Segments) -> Tensor:  # noqa: UP045
        """Embed texts laid end to end.

        ids, type_ids: [T] -> [T, H].
        """
        x = self.word(ids)  # [T, E]
        if self.has_positions:
            x = x + self.position(places(where, ids.size(0)))
        if self.has_types:
            if type_ids is None:
                x = x + self.token_type(ids.new_zeros(1))  # [1, E]
            else:
                x = x + self.token_type(type_ids)
        return self.norm(self.projection(x))


class DebertaLayer(nn.Module):
    """Compute disentangled attention, then the two-layer network, each with residual and norm (post-norm)."""

    def __init__(self, shape: DebertaShape, operators: Operators) -> None:
        super().__init__()
        hidden, eps = shape.hidden_size, shape.layer_norm_eps
        has_keys, has_queries = (shape.relative_attention and name in shape.terms for name in (KEYS, QUERIES))
        self.query_key_value = Projection(hidden, operators)
        if not shape.shares_projections:
            self.position_key = nn.Linear(hidden, hidden) if has_keys else nn.Identity()
            self.position_query = nn.Linear(hidden, hidden) if has_queries else nn.Identity()
        self.shares_projections = shape.shares_projections
        self.attention = DisentangledAttention(
            hidden,
            shape.attention_heads,
            operators,
            has_keys=has_keys,
            has_queries=has_queries,
            # transformers counts the products even where there are no relative positions
            terms=1 + (KEYS in shape.terms) + (QUERIES in shape.terms),
        )
        self.attention_output = LinearAddNorm(hidden, hidden, eps, operators)
        self.feed_forward = FeedForward(hidden, shape.intermediate_size, shape.activation, eps, operators)

    def prepare(self, relative: Tensor) -> None:
        """Project the vectors of relative positions, [B, H] float32, and forget what projects them."""
        dtype = self.attention_output.weight.dtype
        if self.shares_projections:
            weight, bias = self.query_key_value.weight.float(), self.query_key_value.bias.float()
            queries, keys, _ = functional.linear(relative, weight, bias).chunk(3, dim=1)
        else:
            keys, queries = _projected(self.position_key, relative), _projected(self.position_query, relative)
            del self.position_key, self.position_query
        self.attention.place(keys.to(dtype), queries.to(dtype))

    def forward(self, x: Tensor, shared: Positions, wanted: Wanted, whole: bool) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute a layer as Encoder asks for it.

        x: [T, H] -> [T, H].
        """
        if whole:
            return self.run(x, shared, wanted)
        return x, self.attention.weights(self.query_key_value(x), wanted, shared)

    def run(self, x: Tensor, shared: Positions, wanted: Wanted) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute the whole layer in one block, since TorchScript holds what an `if` uses until the `if` ends."""
        qkv = self.query_key_value(x)
        weights = self.attention.weights(qkv, wanted, shared)
        x = self.attention_output(self.attention(qkv, shared), x)
        return self.feed_forward(x), weights


def _projected(layer: nn.Module, relative: Tensor) -> Tensor:
    """Apply a layer in float32."""
    if isinstance(layer, nn.Linear):
        return functional.linear(relative, layer.weight.float(), layer.bias.float())
    return relative


class Convolution(nn.Module):
    """Compute LayerNorm(residual + activation(convolution of x over neighbouring tokens of a text))."""

    __constants__ = ("kernel",)

    def __init__(self, shape: DebertaShape, operators: Operators) -> None:
        super().__init__()
        self.kernel = shape.kernel
        own = operators.beside_layers
        self.linear = Linear(shape.kernel * shape.hidden_size, shape.hidden_size, own)  # of k tokens end to end
        self.activation = Activation(shape.kernel_activation, invariant=self.linear.packs)
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(self, x: Tensor, residual: Tensor, where: Segments) -> Tensor:
        """Apply the convolution, with zeros beyond a text's ends.

        x, residual: [T, H] -> [T, H].
        """
        tokens = x.size(0)
        place = places(where, tokens).unsqueeze(1)
        offsets = torch.arange(self.kernel, device=x.device) - self.kernel // 2
        beside = place + offsets  # [T, k]
        inside = (beside >= 0) & (beside < spread(where.lengths, where, tokens).unsqueeze(1))
        rows = torch.arange(tokens, device=x.device).unsqueeze(1) + offsets
        near = x[rows.clamp(0, tokens - 1)].masked_fill(~inside.unsqueeze(2), 0.0)  # [T, k, H]
        return self.norm(residual + self.activation(self.linear(near.flatten(1))))


class ConvolvedLayer(DebertaLayer):
    """Add, to a layer, a convolution of the states that it reads."""

    def __init__(self, shape: DebertaShape, operators: Operators) -> None:
        super().__init__(shape, operators)
        self.convolution = Convolution(shape, operators)

    def run(self, x: Tensor, shared: Positions, wanted: Wanted) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute the whole layer, and the convolution beside it."""
        qkv = self.query_key_value(x)
        weights = self.attention.weights(qkv, wanted, shared)
        residual = self.attention_output(self.attention(qkv, shared), x)
        return self.convolution(x, self.feed_forward(residual), shared.where), weights


class DebertaEncoder(Encoder):
    """Stack embeddings and layers, the first of which may have a convolution.

    There is no pooler: the heads that read the first token have their own.
    """

    __constants__ = ("any_lengths", "buckets", "has_pooler", "reach", "span")

    def __init__(self, shape: DebertaShape, operators: Operators) -> None:
        first = ConvolvedLayer if shape.kernel else DebertaLayer
        layers = [(first if i == 0 else DebertaLayer)(shape, operators) for i in range(shape.layers)]
        embeddings = DebertaEmbeddings(shape, operators)
        super().__init__(embeddings, layers, None, any_lengths=layers[0].attention.any_lengths)
        self.buckets, self.reach, self.span = shape.buckets, shape.reach, shape.span
        if shape.relative_attention:
            self.relative = nn.Embedding(2 * shape.span, shape.hidden_size)
            if shape.normalizes:
                self.relative_norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def prepare(self) -> None:
        """Project the vectors of relative positions for each layer, in float32, and forget them."""
        if not hasattr(self, "relative"):
            return
        vectors = self.relative.weight.detach().float()
        del self.relative
        if hasattr(self, "relative_norm"):
            norm = self.relative_norm
            vectors = functional.layer_norm(
                vectors, norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps
            )
            del self.relative_norm
        layers: Any = self.layers
        for layer in layers:
            layer.prepare(vectors)

    def shared(self, where: Segments) -> Positions:
        """Find the buckets of all distances that occur."""
        distances = torch.arange(where.longest - 1, -where.longest, -1, device=where.starts.device)
        found = buckets_of(distances, self.buckets, self.reach) + self.span
        return Positions(where, found.clamp(0, 2 * self.span - 1))
