"""The whole encoder, as it is scripted and saved."""

from __future__ import annotations

# TorchScript reads these annotations, and knows the old spellings only.
from typing import List, Optional  # noqa: UP035

import torch
from torch import Tensor, nn

from bertstream.workers.models.embeddings import Embeddings
from bertstream.workers.models.encoder import Layer
from bertstream.workers.models.pooling import Pooler, pool_rows
from bertstream.workers.models.segments import segments
from bertstream.workers.models.shape import EncoderShape, Operators


class Model(nn.Module):
    """Embeddings, layers, pooler."""

    __constants__ = ("has_pooler",)

    def __init__(self, shape: EncoderShape, operators: Operators) -> None:
        super().__init__()
        self.has_pooler = shape.has_pooler
        self.embeddings = Embeddings(shape)
        self.layers = nn.ModuleList([Layer(shape, operators) for _ in range(shape.layers)])
        self.pooler = Pooler(shape.hidden_size) if shape.has_pooler else nn.Identity()

    def forward(
        self,
        ids: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
        lengths: List[int],  # noqa: UP006
        layers: List[int],  # noqa: UP006
    ) -> List[Tensor]:  # noqa: UP006
        """ids, type_ids: [T] -> [T, H] for each of `layers`, 0 being the embeddings. None above the highest is run."""
        where = segments(lengths, ids.device)
        deepest = max(layers)
        x = self.embeddings(ids, type_ids, where)
        states = [x]
        for i, layer in enumerate(self.layers):
            if i < deepest:
                x = layer(x, where)
            # States nobody asked for are not kept, since a batch's may be hundreds of megabytes.
            states.append(x if i + 1 in layers else x[:0])
        return [states[i] for i in layers]

    @torch.jit.export
    def pooled_first(self, first: Tensor) -> Tensor:
        """The model's own pooler. first: [n, H] -> [n, H]"""
        return self.pooler(first)

    @torch.jit.export
    def pool(self, states: Tensor, lengths: List[int], mode: str) -> Tensor:  # noqa: UP006
        """states: [T, H] -> [n, H] float32"""
        where = segments(lengths, states.device)
        if mode == "pooler":
            return self.pooler(states[where.starts]).to(torch.float32)
        return pool_rows(states, where, mode)
