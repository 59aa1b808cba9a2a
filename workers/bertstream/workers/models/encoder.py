"""What all encoders have in common, whatever their architecture: embeddings, layers one after the other, a pooler.

T tokens, H hidden size, V vocabulary size, E embedding size. An architecture is a subclass, scripted as if all of it
stood there: its `shared` gives whatever its layers take.
"""

from __future__ import annotations

from collections.abc import Sequence

# TorchScript reads these annotations, and knows the old spellings only.
from typing import Any, Dict, List, Optional, Tuple  # noqa: UP035

from torch import Tensor, nn

from bertstream.workers.models.attention import Wanted
from bertstream.workers.models.segments import Segments


class Encoder(nn.Module):
    """Runs layers, and no more of them than somebody asks for.

    embeddings: has `word`, an nn.Embedding [V, E], and embeds (ids [T], type_ids [T] or None, segments) -> [T, H].
    layers: each takes (x [T, H], shared, wanted, whole) and gives its states [T, H] and the attention weights wanted,
    a list of [w, n, n] float32; not `whole`, it gives x as it came, and spares itself all but the weights.
    pooler: of a first token's states, [n, H] -> [n, H]; None where the checkpoint has none.
    any_lengths: whether layers take texts that are laid out on the device, whose lengths nobody knows here.
    """

    __constants__: tuple[str, ...] = ("any_lengths", "has_pooler")

    def __init__(
        self, embeddings: nn.Module, layers: Sequence[nn.Module], pooler: nn.Module | None, *, any_lengths: bool
    ) -> None:
        super().__init__()
        self.embeddings: Any = embeddings  # for whoever checks types, who knows no modules' attributes
        self.layers = nn.ModuleList(layers)
        self.has_pooler = pooler is not None
        self.pooler = nn.Identity() if pooler is None else pooler
        self.any_lengths = any_lengths

    def shared(self, where: Segments) -> Any:
        """Compute once a batch what all layers take beside the states."""
        raise NotImplementedError

    def embed(self, ids: Tensor, type_ids: Optional[Tensor], where: Segments) -> Tensor:  # noqa: UP045
        """Compute layer 0. ids, type_ids: [T] -> [T, H]"""
        states: Tensor = self.embeddings(ids, type_ids, where)
        return states

    def words(self) -> Tensor:
        """Return the matrix of the word embeddings, [V, E]."""
        matrix: Tensor = self.embeddings.word.weight
        return matrix

    def run(
        self,
        x: Tensor,
        where: Segments,
        start: int,
        layers: List[int],  # noqa: UP006
        weight_layers: List[int],  # noqa: UP006
        wanted: Wanted,
    ) -> Tuple[List[Tensor], List[List[Tensor]]]:  # noqa: UP006
        """Go on from layer `start`'s states x [T, H]: those of `layers`, and the weights `wanted` of `weight_layers`.

        Runs no layer that nothing depends on, and of one that is wanted for its weights alone only its start.
        """
        deepest = max([start] + layers)  # noqa: RUF005  # TorchScript knows no starred lists
        last = max([deepest] + weight_layers)  # noqa: RUF005
        nothing = Wanted(wanted.groups[:0], wanted.heads)
        shared = self.shared(where)
        # States nobody asked for are not kept, since a batch's may be hundreds of megabytes.
        states: Dict[int, Tensor] = {start: x}  # noqa: UP006
        weights: Dict[int, List[Tensor]] = {}  # noqa: UP006
        for i, layer in enumerate(self.layers):
            number = i + 1
            if number > start and number <= last:
                explicit = number in weight_layers
                x, found = layer(x, shared, wanted if explicit else nothing, number < last or number <= deepest)
                if explicit:
                    weights[number] = found
                if number in layers:
                    states[number] = x
        return [states[number] for number in layers], [weights[number] for number in weight_layers]
