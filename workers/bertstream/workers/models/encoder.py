"""Define what all encoders have, whatever their architecture: embeddings, a stack of layers, a pooler.

T tokens, H hidden size, V vocabulary size, E embedding size. An architecture is a subclass, scripted as if all of it
stood there: its `shared` returns whatever its layers take.
"""

from __future__ import annotations

from collections.abc import Sequence

# TorchScript reads these annotations, and knows only the old spellings.
from typing import Any, Dict, List, Optional, Tuple  # noqa: UP035

from torch import Tensor, nn

from bertstream.workers.models.attention import Wanted
from bertstream.workers.models.segments import Segments


class Encoder(nn.Module):
    """Run layers, and no more of them than are asked for.

    embeddings: has `word`, an nn.Embedding [V, E], and embeds (ids [T], type_ids [T] or None, segments) -> [T, H].
    layers: each takes (x [T, H], shared, wanted, whole) and returns its states [T, H] and the attention weights wanted,
    a list of [w, n, n] float32; without `whole`, it returns x unchanged, and computes the weights alone.
    pooler: of a first token's states, [n, H] -> [n, H]; None where the checkpoint has none.
    any_lengths: whether layers take texts that are laid out on the device, whose lengths the CPU does not know.
    """

    __constants__: tuple[str, ...] = ("any_lengths", "has_pooler")

    def __init__(
        self, embeddings: nn.Module, layers: Sequence[nn.Module], pooler: nn.Module | None, *, any_lengths: bool
    ) -> None:
        super().__init__()
        self.embeddings: Any = embeddings  # Any, since type checkers do not know the attributes of modules
        self.layers = nn.ModuleList(layers)
        self.has_pooler = pooler is not None
        self.pooler = nn.Identity() if pooler is None else pooler
        self.any_lengths = any_lengths

    def prepare(self) -> None:
        """Compute, once weights are loaded, what depends on them alone; not part of the program."""

    def shared(self, where: Segments) -> Any:
        """Compute, once a batch, what all layers take besides the states."""
        raise NotImplementedError

    def embed(self, ids: Tensor, type_ids: Optional[Tensor], where: Segments) -> Tensor:  # noqa: UP045
        """Compute layer 0.

        ids, type_ids: [T] -> [T, H].
        """
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
        """Go on from layer `start`'s states x [T, H]; return the states of `layers` and weights of `weight_layers`.

        No layer is run that nothing depends on, and of a layer that is wanted for its weights alone only the start.
        """
        deepest = max([start] + layers)  # noqa: RUF005  # TorchScript does not support starred lists
        last = max([deepest] + weight_layers)  # noqa: RUF005
        nothing = Wanted(wanted.groups[:0], wanted.heads)
        shared = self.shared(where)
        # States that nobody asks for are not kept, since a batch's may be hundreds of megabytes.
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
