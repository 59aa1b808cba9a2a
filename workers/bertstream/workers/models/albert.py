"""Define ALBERT (arXiv 1909.11942): BERT's layers, each used several times, after words of fewer dimensions.

T tokens, H hidden size, E embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bertstream.workers.models.bert import BertEmbeddings, BertEncoder, BertShape
from bertstream.workers.models.linear import Linear
from bertstream.workers.models.shape import Operators


@dataclass(frozen=True, slots=True, kw_only=True)
class AlbertShape(BertShape):
    """Hold the sizes and switches of an ALBERT.

    Its `layers` are all that a text passes, one after another, as transformers counts them.
    """

    COUNTS: ClassVar[Mapping[str, int]] = {**BertShape.COUNTS, "groups": 1 << 10, "group_layers": 1 << 10}

    groups: int
    group_layers: int  # layers of a group, one after another

    def __post_init__(self) -> None:
        BertShape.__post_init__(self)
        if self.layers % self.group_layers:
            raise ValueError("the layers must be whole groups")
        if self.groups > self.repeats:
            raise ValueError(f"num_hidden_groups {self.groups} are more than num_hidden_layers {self.repeats}")

    @property
    def repeats(self) -> int:
        """Return how many groups a text passes, one after another."""
        return self.layers // self.group_layers

    def place(self, layer: int) -> tuple[int, ...]:
        """Return the group of a layer, and its number within the group, from 0."""
        turn = layer // self.group_layers
        return int(turn / (self.repeats / self.groups)), layer % self.group_layers  # as transformers rounds


class AlbertEmbeddings(BertEmbeddings):
    """Compute layer 0 from token ids: BERT's embeddings, always projected."""

    def __init__(self, shape: AlbertShape, operators: Operators) -> None:
        super().__init__(shape, operators)
        self.projection = Linear(shape.embedding_size, shape.hidden_size, operators.beside_layers)


class AlbertEncoder(BertEncoder):
    """Stack embeddings, layers and pooler.

    Layers that share weights are one module several times.
    """

    def __init__(self, shape: AlbertShape, operators: Operators) -> None:
        super().__init__(shape, operators)
        self.embeddings = AlbertEmbeddings(shape, operators)
        places = [shape.place(layer) for layer in range(shape.layers)]
        own = dict(zip(places, self.layers, strict=True))
        self.layers = nn.ModuleList([own[place] for place in places])
