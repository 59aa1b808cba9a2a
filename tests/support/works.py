"""Make work for the queue, and a program that is plain arithmetic, so that a reference is written in a few lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bertstream.workers.contract import INTERACTIVE, Batch, OutputOptions, Pooling, PoolingMode, Work
from bertstream.workers.programs.interface import AttentionOptions, Encoded, ForwardResult, with_sources

LAST_LAYER = 3
HIDDEN = 6
VOCABULARY = 23
LABELS = {"next_sentence": 2, "sequence_classification": 4, "multiple_choice": 1} | {
    "token_classification": 5,
    "question_answering": 2,
}
MEAN = OutputOptions(("pooled",), Pooling("mean", (LAST_LAYER,)))


def make_batch(lengths: Sequence[int], *, first_id: int = 1, type_ids: bool = False) -> Batch:
    """Make texts whose ids count up from `first_id`."""
    ids = np.arange(first_id, first_id + sum(lengths), dtype=np.int32)
    return Batch(ids, np.array(lengths, np.int32), ids % 2 if type_ids else None)


def make_work(
    work_id: int,
    lengths: Sequence[int] = (3,),
    *,
    output_options: OutputOptions = MEAN,
    priority: int = INTERACTIVE,
    deadline: float = float("inf"),
    alone: bool = False,
    first_id: int = 1,
    type_ids: bool = False,
    session: int = 0,
    caller: str = "",
    weight: float = 1.0,
    admitted: bool = False,
) -> Work:
    """Make one entry of a queue."""
    batch = make_batch(lengths, first_id=first_id, type_ids=type_ids)
    return Work(
        work_id, batch, output_options, priority, deadline, alone, session, not session, caller, weight, admitted
    )


class FakeProgram:
    """Compute states that depend on a token's id, type, place in its text and layer, and on nothing else."""

    def __init__(self) -> None:
        self.layers_asked: list[list[int]] = []
        self.lengths_seen: list[list[int]] = []
        self.heads_run: list[tuple[str, int]] = []  # the head, and on how many rows it ran

    @property
    def vocabulary_size(self) -> int:
        return VOCABULARY

    def hidden_states(
        self, ids: Tensor, type_ids: Tensor | None, lengths: list[int], layers: list[int]
    ) -> list[Tensor]:
        self.layers_asked.append(layers)
        self.lengths_seen.append(lengths)
        places = torch.cat([torch.arange(length) for length in lengths])
        return [fake_states(ids, type_ids, places, layer) for layer in layers]

    def encode(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        poolings: frozenset[Pooling],
    ) -> Encoded:
        needed = with_sources(layers, poolings, LAST_LAYER)
        return Encoded(dict(zip(needed, self.hidden_states(ids, type_ids, lengths, needed), strict=True)))

    def forward(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        attention: AttentionOptions | None = None,
        attended: list[int] | None = None,
    ) -> ForwardResult:
        raise NotImplementedError  # it has no attention

    def embed(self, ids: Tensor, type_ids: Tensor | None, lengths: list[int]) -> Tensor:
        raise NotImplementedError  # its layers do not follow from each other

    def advance(
        self,
        states: Tensor,
        lengths: list[int],
        start: int,
        layers: list[int],
        attention: AttentionOptions | None = None,
    ) -> ForwardResult:
        raise NotImplementedError

    def pooler(self, first: Tensor) -> Tensor:
        return torch.tanh(first * 0.5)

    @property
    def whole_text_heads(self) -> dict[str, PoolingMode]:
        return {}

    def pool(self, states: Tensor, lengths: list[int], mode: str, skipped: int = 0) -> Tensor:
        return torch.stack([fake_pool(text, mode) for text in states.split(lengths)])

    def span_logits(self, head: str, states: Tensor, labels: int) -> Tensor:
        raise NotImplementedError  # it has no such head

    def weights_of(self, ids: Tensor) -> Tensor:
        raise NotImplementedError  # its weights depend on the text

    def logits(self, head: str, states: Tensor) -> Tensor:
        self.heads_run.append((head, len(states)))
        return fake_logits(head, states)


def fake_logits(head: str, states: Tensor) -> Tensor:
    """Return logits, of which the last two are equal where there are at least three.

    states: [rows, H] -> [rows, labels or V].
    """
    width = LABELS.get(head, VOCABULARY)
    columns = torch.cos(torch.arange(HIDDEN)[:, None] * 1.7 + torch.arange(width) * 0.9 + len(head))
    logits = (states.double() @ columns.double() * 3).float()  # the same whatever the other rows are
    if width > 2:
        logits[:, -1] = logits[:, -2]
    return logits


def fake_states(ids: Tensor, type_ids: Tensor | None, places: Tensor, layer: int) -> Tensor:
    """Return states.

    ids, type_ids, places: [T] -> [T, H].
    """
    types = torch.zeros_like(ids) if type_ids is None else type_ids
    columns = torch.arange(1, HIDDEN + 1)
    angles = ids[:, None].double() * 0.37 * columns + types[:, None] + places[:, None].double() * 0.11 + layer
    return torch.sin(angles).float()


def fake_pool(states: Tensor, mode: str) -> Tensor:
    """Pool a text's states.

    states: [tokens, H] -> [H].
    """
    if mode == "cls":
        return states[0]
    if mode == "last_token":
        return states[-1]
    if mode == "max":
        return states.amax(0)
    return states.sum(0) / (len(states) if mode == "mean" else len(states) ** 0.5)
