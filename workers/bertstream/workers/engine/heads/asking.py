"""Gather what the works of a batch ask of task heads, so that what several of them share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from bertstream.workers.contract import HeadOptions, Output, Spans
from bertstream.workers.engine.batch import Prepared
from bertstream.workers.programs.interface import Program
from bertstream.workers.ragged import Ints, rows_of

Named = dict[str, Tensor]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Joined:
    """Hold what was made for several works, their rows end to end.

    The tensors are keyed by the ending of an output's name, "" where there is one tensor.
    """

    tensors: Named
    slices: dict[int, slice]  # keyed by the work's index in the batch

    def of(self, index: int, name: str, columns: int | None = None) -> Named:
        """Return one work's rows, as copies, which keep no other work's rows alive."""
        found = Named()
        for ending, values in self.tensors.items():
            rows = values[self.slices[index]]
            found[name + ending] = (rows[:, :columns] if rows.dim() > 1 else rows).clone()
        return found


class Asking:
    """Hold the works of a batch, and the last layer's states of their texts."""

    def __init__(self, program: Program, batch: Prepared, states: Mapping[int, Tensor]) -> None:
        self.program = program
        self._batch = batch
        self._states = states
        self._places = batch.places()
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returns, called once for all works with this key."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def works(self, output: Output, head: str = "") -> list[int]:
        """Return the works that want this output, of this head where one is named."""
        return [
            index
            for index, work in enumerate(self._batch.works)
            if output in work.output_options.outputs and head in ("", self.options(index).name)
        ]

    def logits(self, output: Output, options: HeadOptions, rows: Callable[[int], Ints]) -> Joined:
        """Run the head for all works that ask for this output of it: [rows, outputs] float32.

        rows: returns the rows that the head reads, for the work with this index.
        """
        return self.once(
            (output, options.name), lambda: self._run(self.works(output, options.name), options.name, rows)
        )

    def _run(self, works: Sequence[int], head: str, rows_of_work: Callable[[int], Ints]) -> Joined:
        if head in self.program.whole_text_heads:
            return self._run_whole(works, head)
        rows = [rows_of_work(index) for index in works]
        return Joined({"": self.program.logits(head, self.states(rows)).float()}, slices(works, rows))

    def _run_whole(self, works: Sequence[int], head: str) -> Joined:
        """Run a head of pooled states, or sentence-transformers' modules, which pool: [texts, labels] float32."""
        mode = self.program.whole_text_heads[head]
        states = self.states([self.tokens(index) for index in works])
        lengths = [self.lengths(index) for index in works]
        pooled = self.program.pool(states.float(), np.concatenate(lengths).tolist(), mode)
        logits = pooled if mode == "checkpoint" else self.program.logits(head, pooled.to(states.dtype)).float()
        return Joined({"": logits}, slices(works, lengths))

    @property
    def device(self) -> torch.device:
        """Return where the batch is."""
        return self._batch.ids.device

    @property
    def last(self) -> Tensor:
        """Return the last layer's states of the batch, [T, H]."""
        return self._states[self._batch.last_layer]

    def states(self, rows: Sequence[Ints]) -> Tensor:
        """Gather the last layer's states of these rows, [rows, H]."""
        return self.last.index_select(0, torch.from_numpy(np.concatenate(rows)).to(self.last.device))

    def options(self, index: int) -> HeadOptions:
        """Return what a work asks of its head."""
        options = self._batch.works[index].output_options.head
        assert options is not None
        return options

    def spans(self, index: int) -> Spans:
        """Return the spans of a work."""
        spans = self._batch.works[index].batch.spans
        assert spans is not None
        return spans

    def query_of(self, index: int) -> Ints:
        """Return which of a work's texts is the query of each of its documents, [n]."""
        return self._batch.query_of[index]

    def lengths(self, index: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Return the number of tokens of each of a work's texts."""
        return self._batch.works[index].batch.lengths

    def ids(self, index: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Return the ids of all tokens of a work's texts."""
        return self._batch.works[index].batch.ids

    def first_tokens(self, index: int) -> Ints:
        """Return the rows of the first tokens of a work's texts."""
        return self._batch.starts[self._places[index]]

    def tokens(self, index: int) -> Ints:
        """Return the rows of all tokens of a work's texts."""
        return rows_of(self.first_tokens(index), self.lengths(index))

    def span_tokens(self, index: int) -> Ints:
        """Return the rows of the first tokens of a work's spans."""
        spans = self.spans(index)
        rows: Ints = np.repeat(self.first_tokens(index), spans.counts) + spans.starts
        return rows


def slices(works: Sequence[int], rows: Sequence[np.ndarray[tuple[int], np.dtype[np.integer]]]) -> dict[int, slice]:
    """Return where each work's rows are, among those of all these works."""
    ends = np.cumsum([each.size for each in rows]).tolist()
    return {index: slice(*place) for index, place in zip(works, pairwise([0, *ends]), strict=True)}
