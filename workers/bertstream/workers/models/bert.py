"""Define BERT (arXiv 1810.04805) and the models that have kept its layers: RoBERTa, DistilBERT, ELECTRA.

T tokens, H hidden size, E embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# TorchScript reads these annotations, and knows only the old spellings.
from typing import ClassVar, List, Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor, nn

from bertstream.workers.models.attention import Attention, Wanted
from bertstream.workers.models.encoder import Encoder
from bertstream.workers.models.fused import FeedForward, LinearAddNorm, Projection
from bertstream.workers.models.linear import Linear
from bertstream.workers.models.pooling import Pooler
from bertstream.workers.models.positions import places, places_after_padding
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import EncoderShape, Operators


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape(EncoderShape):
    """Hold the sizes and switches of an encoder of BERT's architecture."""

    COUNTS: ClassVar[Mapping[str, int]] = {**EncoderShape.COUNTS, "intermediate_size": 1 << 20, "positions": 1 << 24}

    intermediate_size: int
    positions: int  # rows of the position table
    activation: str
    positions_skip_padding: bool = False  # as in RoBERTa: the first real token has position pad_token_id + 1
    pad_token_id: int = 0  # used with positions_skip_padding alone
    causal: bool = False  # of a decoder: a token attends to itself and to those before it

    def __post_init__(self) -> None:
        pad = self.pad_token_id
        if self.positions_skip_padding and (not _is_count(pad) or pad + 1 >= self.positions):
            raise ValueError(f"pad_token_id {pad!r:.40} leaves no positions")

    @property
    def max_tokens(self) -> int:
        """Return the length of the longest text that the position table allows."""
        return self.positions - (self.pad_token_id + 1 if self.positions_skip_padding else 0)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class BertEmbeddings(nn.Module):
    """Compute layer 0 from token ids."""

    __constants__ = ("has_projection", "has_types", "pad_token_id", "positions_skip_padding")

    def __init__(self, shape: BertShape, operators: Operators) -> None:
        super().__init__()
        self.positions_skip_padding = shape.positions_skip_padding
        self.pad_token_id = shape.pad_token_id
        self.has_types = shape.type_vocabulary_size > 0
        self.has_projection = shape.embedding_size != shape.hidden_size
        self.word = nn.Embedding(shape.vocabulary_size, shape.embedding_size)
        self.position = nn.Embedding(shape.positions, shape.embedding_size)
        types = shape.type_vocabulary_size
        self.token_type = nn.Embedding(types, shape.embedding_size) if self.has_types else nn.Identity()
        self.norm = nn.LayerNorm(shape.embedding_size, eps=shape.layer_norm_eps)
        own = operators.beside_layers
        self.projection = Linear(shape.embedding_size, shape.hidden_size, own) if self.has_projection else nn.Identity()

    def forward(self, ids: Tensor, type_ids: Optional[Tensor], where: Segments) -> Tensor:  # noqa: UP045
        """Embed texts laid end to end.

        ids, type_ids: [T] -> [T, H].
        """
        if self.positions_skip_padding:
            return self.at(ids, type_ids, places_after_padding(ids, self.pad_token_id, where))
        return self.at(ids, type_ids, places(where, ids.size(0)))

    def at(self, ids: Tensor, type_ids: Optional[Tensor], positions: Tensor) -> Tensor:  # noqa: UP045
        """Embed tokens at these rows of the position table.

        ids, type_ids, positions: [T] -> [T, H].
        """
        x = self.word(ids)  # [T, E]
        # Added in transformers' order, so that the sums round alike.
        if self.has_types:
            if type_ids is None:
                x = x + self.token_type(ids.new_zeros(1))  # [1, E]
            else:
                x = x + self.token_type(type_ids)
        x = x + self.position(positions)
        return self.projection(self.norm(x))

    def positions_after(self, ids: Tensor, before: Tensor) -> Tensor:
        """Return the positions of one more token a text, after `before` tokens, as transformers counts with a cache.

        ids, before: [B] -> [B].
        """
        if self.positions_skip_padding:
            return torch.where(ids != self.pad_token_id, before + 1, 0) + self.pad_token_id
        return before


class BertLayer(nn.Module):
    """Compute attention, then the two-layer network, each with residual and norm (post-norm)."""

    def __init__(self, shape: BertShape, operators: Operators) -> None:
        super().__init__()
        hidden, eps = shape.hidden_size, shape.layer_norm_eps
        self.query_key_value = Projection(hidden, operators)
        self.attention = Attention(hidden, shape.attention_heads, operators, causal=shape.causal)
        self.attention_output = LinearAddNorm(hidden, hidden, eps, operators)
        self.feed_forward = FeedForward(hidden, shape.intermediate_size, shape.activation, eps, operators)

    def forward(self, x: Tensor, where: Segments, wanted: Wanted, whole: bool) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute a layer as Encoder asks for it.

        x: [T, H] -> [T, H].
        """
        if whole:
            return self.run(x, where, wanted)
        qkv, bias = self.query_key_value.pending(x)
        return x, self.attention.weights(qkv, bias, wanted)

    def run(self, x: Tensor, where: Segments, wanted: Wanted) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """Compute the whole layer in one block, since TorchScript holds what an `if` uses until the `if` ends."""
        qkv, bias = self.query_key_value.pending(x)
        weights = self.attention.weights(qkv, bias, wanted)
        x = self.attention_output(self.attention(qkv, bias, where), x)
        return self.feed_forward(x), weights


class BertEncoder(Encoder):
    """Stack embeddings, layers and pooler.

    Layers share nothing but where texts lie.
    """

    def __init__(self, shape: BertShape, operators: Operators) -> None:
        layers = [BertLayer(shape, operators) for _ in range(shape.layers)]
        pooler = Pooler(shape.hidden_size, operators) if shape.has_pooler else None
        super().__init__(BertEmbeddings(shape, operators), layers, pooler, any_lengths=layers[0].attention.any_lengths)

    def shared(self, where: Segments) -> Segments:
        """Return where texts lie, which is all that layers take besides the states."""
        return where
