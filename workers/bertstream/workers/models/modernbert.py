"""Define ModernBERT (arXiv 2412.13663): rotary positions, norms first, gated networks, and windows of attention.

Most layers see a window of each text, and some all of it. T tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# TorchScript reads these annotations, and knows only the old spellings.
from typing import ClassVar, List, NamedTuple, Optional, Tuple  # noqa: UP035

from torch import Tensor, nn

from bertstream.workers.models.attention import Attention, Wanted
from bertstream.workers.models.encoder import Encoder
from bertstream.workers.models.fused import GatedLinear, LinearAdd, Projection
from bertstream.workers.models.rotary import POSITIONS, Angles, Rotary, Rotation, TokenAngles, check_head_size
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import EncoderShape, Operators


@dataclass(frozen=True, slots=True, kw_only=True)
class ModernBertShape(EncoderShape):
    """Hold the sizes and switches of a ModernBERT."""

    COUNTS: ClassVar[Mapping[str, int]] = {
        **EncoderShape.COUNTS,
        "intermediate_size": 1 << 20,
        "positions": POSITIONS,
    }

    intermediate_size: int
    positions: int  # tokens of the longest text
    activation: str
    window: int  # tokens before and after it that a token sees in a local layer
    local_layers: tuple[bool, ...]  # of each layer, whether it is one
    global_rotary: Rotary
    local_rotary: Rotary
    attention_bias: bool
    mlp_bias: bool
    norm_bias: bool

    def __post_init__(self) -> None:
        check_head_size(self)

    @property
    def max_tokens(self) -> int:
        """Return the length of the longest text, which the checkpoint's authors set."""
        return self.positions


class ModernBertInputs(NamedTuple):
    """Hold what layers take besides the states."""

    where: Segments
    of_global: TokenAngles
    of_local: TokenAngles


def _norm(shape: ModernBertShape) -> nn.LayerNorm:
    return nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps, bias=shape.norm_bias)


class ModernBertEmbeddings(nn.Module):
    """Compute layer 0 from token ids."""

    def __init__(self, shape: ModernBertShape) -> None:
        super().__init__()
        self.word = nn.Embedding(shape.vocabulary_size, shape.hidden_size)
        self.norm = _norm(shape)

    def forward(self, ids: Tensor, type_ids: Optional[Tensor], where: Segments) -> Tensor:  # noqa: UP045
        """Embed texts laid end to end; there are no segments, and positions are the layers'.

        ids: [T] -> [T, H].
        """
        return self.norm(self.word(ids))


class ModernBertLayer(nn.Module):
    """Compute attention, then the gated network, each with a norm before it and the residual after it (pre-norm).

    The first layer has no norm before attention, since embeddings have just been normalised. The last one's states have
    the encoder's last norm.
    """

    __constants__ = ("is_local",)

    def __init__(self, shape: ModernBertShape, number: int, operators: Operators) -> None:
        super().__init__()
        hidden, inner, heads = shape.hidden_size, shape.intermediate_size, shape.attention_heads
        self.is_local = shape.local_layers[number]
        self.attention_norm = _norm(shape) if number else nn.Identity()
        self.query_key_value = Projection(hidden, operators, bias=shape.attention_bias)
        self.attention = Attention(hidden, heads, operators, window=shape.window if self.is_local else None)
        self.rotation = Rotation(hidden, heads, native=self.attention.native)
        self.attention_output = LinearAdd(hidden, hidden, operators, bias=shape.attention_bias)
        self.norm = _norm(shape)
        self.gated = GatedLinear(hidden, inner, shape.activation, operators, bias=shape.mlp_bias)
        self.output = LinearAdd(inner, hidden, operators, bias=shape.mlp_bias)
        self.final_norm = _norm(shape) if number + 1 == shape.layers else nn.Identity()

    def forward(self, x: Tensor, shared: ModernBertInputs, wanted: Wanted, whole: bool) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute a layer as Encoder asks for it.

        x: [T, H] -> [T, H].
        """
        if whole:
            return self.run(x, shared, wanted)
        return x, self.attention.weights(self.turned(x, shared), None, wanted)

    def run(self, x: Tensor, shared: ModernBertInputs, wanted: Wanted) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute the whole layer in one block, since TorchScript holds what an `if` uses until the `if` ends."""
        qkv = self.turned(x, shared)
        weights = self.attention.weights(qkv, None, wanted)
        x = self.attention_output.add(self.attention(qkv, None, shared.where), x)
        x = self.output.add(self.gated(self.norm(x)), x)
        return self.final_norm(x), weights

    def turned(self, x: Tensor, shared: ModernBertInputs) -> Tensor:
        """Return queries, keys and values at their positions. x: [T, H] -> [T, 3H]."""
        qkv = self.query_key_value(self.attention_norm(x))
        return self.rotation(qkv, shared.of_local if self.is_local else shared.of_global)


class ModernBertEncoder(Encoder):
    """Stack embeddings, layers, and the angles of both kinds of layer."""

    def __init__(self, shape: ModernBertShape, operators: Operators) -> None:
        layers = [ModernBertLayer(shape, number, operators) for number in range(shape.layers)]
        super().__init__(ModernBertEmbeddings(shape), layers, None, any_lengths=layers[0].attention.any_lengths)
        head_size = shape.hidden_size // shape.attention_heads
        self.global_angles = Angles(shape.global_rotary, head_size)
        self.local_angles = Angles(shape.local_rotary, head_size)

    def shared(self, where: Segments) -> ModernBertInputs:
        """Compute the angles of all tokens."""
        return ModernBertInputs(where, self.global_angles(where), self.local_angles(where))
