"""Define BERT's layers with rotary positions, and gated networks as NomicBERT and GTE have them.

NomicBERT is arXiv 2402.01613, GTE arXiv 2407.19669. Jina's third embedding models, arXiv 2409.10173, have BERT's
network. T tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# TorchScript reads these annotations, and knows only the old spellings.
from typing import ClassVar, List, NamedTuple, Optional, Tuple  # noqa: UP035

from torch import Tensor, nn

from bertstream.workers.models.attention import Attention, Wanted
from bertstream.workers.models.encoder import Encoder
from bertstream.workers.models.fused import FeedForward, GatedLinear, LinearAddNorm, Projection
from bertstream.workers.models.pooling import Pooler
from bertstream.workers.models.rotary import POSITIONS, Angles, Rotary, Rotation, TokenAngles, check_head_size
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import EncoderShape, Operators


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryBertShape(EncoderShape):
    """Hold the sizes and switches of such an encoder."""

    COUNTS: ClassVar[Mapping[str, int]] = {
        **{name: most for name, most in EncoderShape.COUNTS.items() if name != "type_vocabulary_size"},
        "intermediate_size": 1 << 20,
        "positions": POSITIONS,
    }

    intermediate_size: int
    positions: int  # tokens of the longest text
    activation: str
    rotary: Rotary
    query_key_value_bias: bool
    attention_output_bias: bool
    gate_bias: bool  # of both matrices that widen states
    output_bias: bool
    gated: bool = True  # else the network is BERT's, with all biases

    def __post_init__(self) -> None:
        check_head_size(self)
        if self.rotary.trained and self.hidden_size == 2 * self.attention_heads:
            raise ValueError("angles that depend on a text's length need heads of more than 2 numbers")
        types: object = self.type_vocabulary_size
        most = EncoderShape.COUNTS["type_vocabulary_size"]
        if not isinstance(types, int) or isinstance(types, bool) or not 0 <= types <= most:
            raise ValueError(f"type_vocab_size must be a whole number from 0 to {most:,}, not {types!r:.40}")

    @property
    def max_tokens(self) -> int:
        """Return the length of the longest text, which the checkpoint's authors set."""
        return self.positions


class RotaryBertInputs(NamedTuple):
    """Hold what layers take besides the states."""

    where: Segments
    turns: TokenAngles


class RotaryBertEmbeddings(nn.Module):
    """Compute layer 0 from token ids."""

    __constants__ = ("has_types",)

    def __init__(self, shape: RotaryBertShape) -> None:
        super().__init__()
        types, hidden = shape.type_vocabulary_size, shape.hidden_size
        self.has_types = types > 0
        self.word = nn.Embedding(shape.vocabulary_size, hidden)
        self.token_type = nn.Embedding(types, hidden) if self.has_types else nn.Identity()
        self.norm = nn.LayerNorm(hidden, eps=shape.layer_norm_eps)

    def forward(self, ids: Tensor, type_ids: Optional[Tensor], where: Segments) -> Tensor:  # noqa: UP045
        """Embed texts laid end to end; positions are the layers'.

        ids, type_ids: [T] -> [T, H].
        """
        x = self.word(ids)
        if self.has_types:
            x = x + self.token_type(ids.new_zeros(1) if type_ids is None else type_ids)
        return self.norm(x)


class RotaryBertLayer(nn.Module):
    """Compute attention, then one of the networks, each with residual and norm after it (post-norm)."""

    __constants__ = ("is_gated",)

    def __init__(self, shape: RotaryBertShape, operators: Operators) -> None:
        super().__init__()
        hidden, inner, heads, eps = (
            shape.hidden_size,
            shape.intermediate_size,
            shape.attention_heads,
            shape.layer_norm_eps,
        )
        self.query_key_value = Projection(hidden, operators, bias=shape.query_key_value_bias)
        self.attention = Attention(hidden, heads, operators)
        self.rotation = Rotation(hidden, heads, native=self.attention.native)
        self.attention_output = LinearAddNorm(hidden, hidden, eps, operators, bias=shape.attention_output_bias)
        self.is_gated = shape.gated
        if self.is_gated:
            self.gated = GatedLinear(hidden, inner, shape.activation, operators, bias=shape.gate_bias)
            self.output = LinearAddNorm(inner, hidden, eps, operators, bias=shape.output_bias)
        else:
            self.feed_forward = FeedForward(hidden, inner, shape.activation, eps, operators)

    def forward(self, x: Tensor, shared: RotaryBertInputs, wanted: Wanted, whole: bool) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute a layer as Encoder asks for it.

        x: [T, H] -> [T, H].
        """
        if whole:
            return self.run(x, shared, wanted)
        qkv = self.rotation(self.query_key_value(x), shared.turns)
        return x, self.attention.weights(qkv, None, wanted)

    def run(self, x: Tensor, shared: RotaryBertInputs, wanted: Wanted) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute the whole layer in one block, since TorchScript holds what an `if` uses until the `if` ends."""
        qkv = self.rotation(self.query_key_value(x), shared.turns)
        weights = self.attention.weights(qkv, None, wanted)
        x = self.attention_output(self.attention(qkv, None, shared.where), x)
        if self.is_gated:
            return self.output(self.gated(x), x), weights
        else:
            return self.feed_forward(x), weights


class RotaryBertEncoder(Encoder):
    """Stack embeddings, layers, pooler, and the angles."""

    def __init__(self, shape: RotaryBertShape, operators: Operators) -> None:
        layers = [RotaryBertLayer(shape, operators) for _ in range(shape.layers)]
        pooler = Pooler(shape.hidden_size, operators) if shape.has_pooler else None
        # Where theta depends on a text's length, the CPU has to know it.
        any_lengths = layers[0].attention.any_lengths and not shape.rotary.trained
        super().__init__(RotaryBertEmbeddings(shape), layers, pooler, any_lengths=any_lengths)
        self.angles = Angles(shape.rotary, shape.hidden_size // shape.attention_heads)

    def shared(self, where: Segments) -> RotaryBertInputs:
        """Compute the angles of all tokens."""
        return RotaryBertInputs(where, self.angles(where))
