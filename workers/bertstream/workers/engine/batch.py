"""Prepare a batch: the works' texts end to end, sorted by length, and which layers' states their outputs need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bertstream.workers.contract import Output, OutputOptions, Pooling, Work
from bertstream.workers.engine.copies import to_device
from bertstream.workers.engine.query_pairs import divide
from bertstream.workers.programs.interface import AttentionOptions, source_layers, with_sources
from bertstream.workers.ragged import Ints, rows_of, starts_of

# Outputs that need none of the tokens' states.
VECTORS: frozenset[Output] = frozenset({"pooled", "pooler_output"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """Hold a batch that is ready to compute.

    Its texts are sorted by length, so that equal lengths are neighbours.
    """

    works: tuple[Work, ...]
    ids: Tensor  # [T]
    type_ids: Tensor | None  # [T]
    lengths: list[int]  # [n], descending
    place: Ints  # [n] where text i of the works, end to end, stands in the batch
    starts: Ints  # [n] where the batch's texts start
    last_layer: int
    attended: list[int] | None = None  # [n] how many of each text's first tokens are attended to; None: all
    query_of: Mapping[int, Ints] = field(default_factory=dict)  # by the work's index, as Divided has it

    @property
    def only_vectors(self) -> bool:
        """Return whether only one vector a text is asked for, which need not be waited for while it is computed."""
        output_options = [work.output_options for work in self.works if not work.session]
        return len(output_options) == len(self.works) and all(set(each.outputs) <= VECTORS for each in output_options)

    @property
    def poolings(self) -> frozenset[Pooling]:
        """Return the ways of pooling that the works ask for."""
        output_options = [work.output_options for work in self.works if "pooled" in work.output_options.outputs]
        return frozenset(each.pooling for each in output_options if each.pooling is not None)

    @property
    def state_layers(self) -> list[int]:
        """Return the layers whose states the works need, ascending, not counting the vectors by `poolings`."""
        return sorted({layer for work in self.works for layer in state_layers(work, self.last_layer)})

    @property
    def layers(self) -> list[int]:
        """Return all layers whose states the works need, ascending."""
        return with_sources(self.state_layers, self.poolings, self.last_layer)

    @property
    def attention(self) -> AttentionOptions | None:
        """Return the options for the attention weights that any work asks for; None where no work does."""
        asking = [
            (work.output_options, place)
            for work, place in zip(self.works, self.places(), strict=True)
            if "attentions" in work.output_options.outputs
        ]
        if not asking:
            return None
        return AttentionOptions(
            layers=tuple(sorted({layer for output_options, _ in asking for layer in output_options.attention_layers})),
            texts=tuple(sorted({text for _, place in asking for text in place.tolist()})),
            heads=tuple(sorted({head for output_options, _ in asking for head in output_options.attention_heads})),
        )

    def places(self) -> list[Ints]:
        """Return the places of each work's texts in the batch."""
        ends = np.cumsum([work.batch.lengths.size for work in self.works]).tolist()
        return [self.place[start:end] for start, end in pairwise([0, *ends])]


def prepare(works: Sequence[Work], last_layer: int, device: str = "cpu") -> Prepared:
    """Join the works' texts into one batch; a query and its document become texts of their own."""
    works, query_of = _divided(works)
    lengths = np.concatenate([work.batch.lengths for work in works])
    order = np.argsort(-lengths, kind="stable")
    rows = rows_of(starts_of(lengths)[order], lengths[order])
    ids = np.concatenate([work.batch.ids for work in works])[rows]
    type_ids = _join_type_ids(works)
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    return Prepared(
        works=tuple(works),
        ids=to_device(torch.from_numpy(ids), device),
        type_ids=None if type_ids is None else to_device(torch.from_numpy(type_ids[rows]), device),
        lengths=lengths[order].tolist(),
        place=place,
        starts=starts_of(lengths[order]),
        last_layer=last_layer,
        attended=_join_attended(works, order),
        query_of=query_of,
    )


def _divided(works: Sequence[Work]) -> tuple[Sequence[Work], dict[int, Ints]]:
    query_of: dict[int, Ints] = {}
    texts = list(works)
    for index, work in enumerate(works):
        if work.batch.queries is not None:
            divided = divide(work.batch)
            texts[index], query_of[index] = replace(work, batch=divided.texts), divided.query_of
    return texts, query_of


def _join_attended(works: Sequence[Work], order: Ints) -> list[int] | None:
    if all(work.batch.attended is None for work in works):
        return None
    columns = [w.batch.lengths if w.batch.attended is None else w.batch.attended for w in works]
    return [int(each) for each in np.concatenate(columns)[order]]


def state_layers(work: Work, last_layer: int) -> set[int]:
    """Return the layers whose states a work's outputs are made of, not counting its texts' vectors by a pooling."""
    found = (_LAYERS.get(output, _last)(work.output_options, last_layer) for output in work.output_options.outputs)
    return {layer for layers in found for layer in layers}


def _last(output_options: OutputOptions, last_layer: int) -> tuple[int, ...]:
    return (last_layer,)


def has_static_weights(output_options: OutputOptions) -> bool:
    """Return whether ids are weighed whatever the text, so that nothing is computed of it."""
    return output_options.head is not None and output_options.head.name == "static_weights"


def _of_spans(output_options: OutputOptions, last_layer: int) -> tuple[int, ...]:
    return () if output_options.pooling is None else source_layers(output_options.pooling, last_layer)


# The layers of the outputs that are not made of the last layer.
_LAYERS: Mapping[Output, Callable[[OutputOptions, int], tuple[int, ...]]] = {
    "pooled": lambda output_options, last_layer: (),
    "sparse_weights": lambda output_options, last_layer: () if has_static_weights(output_options) else (last_layer,),
    "attentions": lambda output_options, last_layer: (),
    "hidden_states": lambda output_options, last_layer: output_options.hidden_layers,
    "pooled_spans": _of_spans,
}


def _join_type_ids(works: Sequence[Work]) -> np.ndarray[tuple[int], np.dtype[np.int32]] | None:
    if all(work.batch.type_ids is None for work in works):
        return None
    columns = [np.zeros_like(w.batch.ids) if w.batch.type_ids is None else w.batch.type_ids for w in works]
    return np.concatenate(columns)
