"""Token, segment and position embeddings of a packed batch."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn

from bertstream.workers.models.segments import Segments, spread
from bertstream.workers.models.shape import EncoderShape


class Embeddings(nn.Module):
    """ids -> layer 0. Positions are computed from the lengths, never sent."""

    __constants__ = ("has_projection", "has_types", "pad_token_id", "positions_skip_padding")

    def __init__(self, shape: EncoderShape) -> None:
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
        self.projection = nn.Linear(shape.embedding_size, shape.hidden_size) if self.has_projection else nn.Identity()

    def forward(self, ids: Tensor, type_ids: Optional[Tensor], segments: Segments) -> Tensor:  # noqa: UP045
        """ids, type_ids: [T] -> [T, H]"""
        return self.at(ids, type_ids, self.positions(ids, segments))

    def at(self, ids: Tensor, type_ids: Optional[Tensor], positions: Tensor) -> Tensor:  # noqa: UP045
        """ids, type_ids, positions (rows of the position table): [T] -> [T, H]"""
        x = self.word(ids)  # [T, E]
        # Added in transformers' order, so that the sums round alike.
        if self.has_types:
            if type_ids is None:
                x = x + self.token_type(ids.new_zeros(1))  # [1, E]
            else:
                x = x + self.token_type(type_ids)
        x = x + self.position(positions)
        return self.projection(self.norm(x))

    def positions(self, ids: Tensor, segments: Segments) -> Tensor:
        """[T] -> [T]. RoBERTa counts what is not padding: a pad id within a text stays at position pad_token_id."""
        tokens = ids.size(0)
        if self.positions_skip_padding:
            real = (ids != self.pad_token_id).to(torch.int64)  # [T]
            counted = real.cumsum(0)
            before = (counted - real)[segments.starts]  # [n], what earlier texts counted
            return (counted - spread(before, segments, tokens)) * real + self.pad_token_id
        return torch.arange(tokens, device=ids.device) - spread(segments.starts, segments, tokens)

    def positions_after(self, ids: Tensor, before: Tensor) -> Tensor:
        """Of one token more a text, after so many, as transformers counts with a cache. ids, before: [B] -> [B]"""
        if self.positions_skip_padding:
            return torch.where(ids != self.pad_token_id, before + 1, 0) + self.pad_token_id
        return before
