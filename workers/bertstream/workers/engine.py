"""One batch through the program: join the columns, run, pool, and split the outputs by work again."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bertstream.workers.contract import Pooling, Work
from bertstream.workers.copies import to_device
from bertstream.workers.heads import Heads
from bertstream.workers.outputs import VECTORS, Outputs, Pending, collect
from bertstream.workers.program import Advanced, AttentionWish
from bertstream.workers.ragged import Ints, rows_of, starts_of
from bertstream.workers.sessions import Key, Reached, Sessions


class Program(Protocol):
    """What the engine asks of a compiled model. T tokens of n texts lie end to end; H is the hidden size."""

    def hidden_states(
        self, ids: Tensor, type_ids: Tensor | None, lengths: list[int], layers: list[int]
    ) -> list[Tensor]:
        """ids [T], type_ids [T] -> the states [T, H] of each layer asked for; 0 is the embeddings."""

    @property
    def recorded(self) -> frozenset[Pooling]:
        """The poolings that `replay` may have."""

    def replay(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        poolings: frozenset[Pooling],
    ) -> Advanced | None:
        """hidden_states of layers, of which there may be none, and vectors [n, d]; None where no graph has all that."""

    def forward(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        attention: AttentionWish | None = None,
    ) -> Advanced:
        """hidden_states and attention weights of one pass."""

    def embed(self, ids: Tensor, type_ids: Tensor | None, lengths: list[int]) -> Tensor:
        """ids [T], type_ids [T] -> the embeddings' output [T, H]."""

    def advance(
        self,
        states: Tensor,
        lengths: list[int],
        start: int,
        layers: list[int],
        attention: AttentionWish | None = None,
    ) -> Advanced:
        """From the states [T, H] of layer `start` on."""

    def pooler(self, first: Tensor) -> Tensor:
        """The model's own pooler. first [n, H] -> [n, H]."""

    def pool(self, states: Tensor, lengths: list[int], mode: str, skipped: int = 0) -> Tensor:
        """states [T, H] -> [n, H], by "checkpoint" [n, D]; before each text's first token so many were skipped."""

    @property
    def whole_text_heads(self) -> frozenset[str]:
        """Heads whose logits `pool` gives, by "checkpoint"."""

    @property
    def vocabulary_size(self) -> int:
        """V, of mask_logits."""

    def mask_logits(self, states: Tensor) -> Tensor:
        """The last layer's states of masked tokens [M, H] -> [M, V]."""

    def text_logits(self, head: str, first: Tensor) -> Tensor:
        """The last layer's states of first tokens [n, H] -> [n, labels]; [n, 2] where B follows A, or one a choice."""

    def token_logits(self, head: str, states: Tensor) -> Tensor:
        """The last layer's states [T, H] -> [T, labels]; [T, 2] of an answer's first and last token."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready to compute. Its texts are sorted by length, so that equal lengths are neighbours."""

    works: tuple[Work, ...]
    ids: Tensor  # [T]
    type_ids: Tensor | None  # [T]
    lengths: list[int]  # [n], descending
    place: Ints  # [n]: where text i of the works, end to end, stands in the batch
    starts: Ints  # [n]: where the batch's texts start
    last_layer: int

    @property
    def only_vectors(self) -> bool:
        """Whether all that is asked for is one vector a text, which nobody has to wait for while it is computed."""
        wishes = [work.wishes for work in self.works if not work.session]
        return len(wishes) == len(self.works) and all(set(each.outputs) <= VECTORS for each in wishes)

    def layers(self, ready: Container[Pooling | None] = ()) -> list[int]:
        """Those that the works need states of, ascending, where vectors so pooled are ready."""
        return sorted({layer for work in self.works for layer in needed_layers(work, self.last_layer, ready)})

    def places(self) -> list[Ints]:
        """The places of each work's texts."""
        ends = np.cumsum([work.batch.lengths.size for work in self.works]).tolist()
        return [self.place[start:end] for start, end in pairwise([0, *ends])]


def prepare(works: Sequence[Work], last_layer: int, device: str = "cpu") -> Prepared:
    """Joins the works' texts into one batch."""
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
    )


def run(
    program: Program, batch: Prepared, sessions: Sessions | None = None, keys: Sequence[Key] = ()
) -> list[dict[str, Tensor]]:
    """The outputs of each work, by name, in the wire's types, as CPU tensors in the work's own order of texts.

    A step of a session is a batch of one work; `keys` names the session then.
    """
    return launch(program, batch, sessions, keys).outputs()


class Launched:
    """A batch that the GPU has been told all of, and may still compute. On the CPU it is done."""

    def __init__(self, outputs: list[Pending], device: torch.device) -> None:
        self._outputs = outputs
        self._done: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(device))

    @property
    def done(self) -> bool:
        """Whether outputs need not wait."""
        return self._done is None or self._done.query()

    def outputs(self) -> list[dict[str, Tensor]]:
        """What run gives. Waits for it."""
        if self._done is not None:
            self._done.synchronize()
        return [collect(each) for each in self._outputs]


def launch(program: Program, batch: Prepared, sessions: Sessions | None = None, keys: Sequence[Key] = ()) -> Launched:
    """run, without waiting for the GPU where only vectors are asked for."""
    with torch.inference_mode():
        layers, attention = batch.layers(), _attention(batch)
        if sessions is not None and batch.works[0].session:
            advanced = _step(program, batch, layers, attention, sessions, keys[0])
        elif attention is None:
            layers, advanced = _encode(program, batch, layers)
        else:
            advanced = program.forward(batch.ids, batch.type_ids, batch.lengths, layers, attention)
        states = dict(zip(layers, advanced.states, strict=False))
        outputs, heads = Outputs(program, batch, states, attention, advanced), Heads(program, batch, states)
        placed = enumerate(zip(batch.works, batch.places(), strict=True))
        return Launched(
            [outputs.of(work, place) | heads.of(index) for index, (work, place) in placed], batch.ids.device
        )


def _encode(program: Program, batch: Prepared, layers: list[int]) -> tuple[list[int], Advanced]:
    """The states of these layers; or of fewer, which are named, and the vectors that a graph wrote beside them."""
    asked = {work.wishes.pooling for work in batch.works if "pooled" in work.wishes.outputs}
    if ready := program.recorded & asked:
        others = batch.layers(ready)
        replayed = program.replay(batch.ids, batch.type_ids, batch.lengths, others, ready)
        if replayed is not None:
            return others, replayed
    return layers, Advanced(program.hidden_states(batch.ids, batch.type_ids, batch.lengths, layers), [])


def _step(
    program: Program,
    batch: Prepared,
    layers: list[int],
    attention: AttentionWish | None,
    sessions: Sessions,
    key: Key,
) -> Advanced:
    """Goes on from where the session is, or from the embeddings where that is unknown or further than what is asked."""
    attended = attention.layers if attention else ()
    lowest = min([*layers, *(layer - 1 for layer in attended)])
    highest = max([*layers, *attended])
    reached = sessions.get(key)
    if reached is None or reached.layer > lowest:
        reached = Reached(0, program.embed(batch.ids, batch.type_ids, batch.lengths))
    kept = [] if batch.works[0].final or highest in layers else [highest]
    advanced = program.advance(reached.states, batch.lengths, reached.layer, [*layers, *kept], attention)
    if batch.works[0].final:
        sessions.forget(*_source_and_number(key))
    else:
        at = layers.index(highest) if highest in layers else len(layers)
        sessions.put(key, Reached(highest, advanced.states[at]))
    return advanced


def _source_and_number(key: Key) -> tuple[object, tuple[int]]:
    return key[0], (key[1],)


def needed_layers(work: Work, last_layer: int, ready: Container[Pooling | None] = ()) -> set[int]:
    """The layers whose states a work's outputs are made from, but for vectors that are ready."""
    wishes, pooling = work.wishes, work.wishes.pooling
    layers: set[int] = set()
    for output in wishes.outputs:
        if output == "hidden_states":
            layers |= set(wishes.hidden_layers)
        elif output == "pooled" and pooling in ready:
            continue
        elif output in ("pooled", "pooled_spans") and pooling is not None and pooling.mode != "pooler":
            layers |= set(pooling.layers)
        elif output != "attentions":
            layers.add(last_layer)
    return layers


def _attention(batch: Prepared) -> AttentionWish | None:
    """What is wanted of attention weights, over all works."""
    asking = [
        (work.wishes, place)
        for work, place in zip(batch.works, batch.places(), strict=True)
        if "attentions" in work.wishes.outputs
    ]
    if not asking:
        return None
    return AttentionWish(
        layers=tuple(sorted({layer for wishes, _ in asking for layer in wishes.attention_layers})),
        texts=tuple(sorted({text for _, place in asking for text in place.tolist()})),
        heads=tuple(sorted({head for wishes, _ in asking for head in wishes.attention_heads})),
    )


def _join_type_ids(works: Sequence[Work]) -> np.ndarray[tuple[int], np.dtype[np.int32]] | None:
    if all(work.batch.type_ids is None for work in works):
        return None
    columns = [np.zeros_like(w.batch.ids) if w.batch.type_ids is None else w.batch.type_ids for w in works]
    return np.concatenate(columns)
