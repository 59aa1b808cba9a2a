"""Which rows of outputs that lie end to end belong to which text, and how many bytes they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.head_outputs import HEAD_OUTPUTS, Unit

Ints = NDArray[np.int64]
Tensors = Mapping[str, NDArray[np.generic]]  # outputs by name: "pooled", "hidden_states.3", "hidden_states.3.scales"

# What the entries of an output are for; those of outputs that are not here are for texts.
UNITS: Mapping[str, Unit] = {
    "last_hidden_state": "token",
    "hidden_states": "token",
    "pooled_spans": "span",
    "token_vectors": "span",
    **{name: output.unit for name, output in HEAD_OUTPUTS.items()},
}


@dataclass(frozen=True, slots=True)
class AnswerSizes:
    """The bytes of an answer for each text, each token, each pair of tokens, and each span."""

    text: int
    token: int
    token_pair: int
    span: int

    def of(self, lengths: NDArray[np.integer], span_counts: NDArray[np.integer] | None) -> Ints:
        """Return the bytes of each text's answer: lengths [n], span counts [n] -> [n]."""
        long = lengths.astype(np.int64)
        sizes: Ints = self.text + long * self.token + long * long * self.token_pair
        return sizes if span_counts is None else sizes + span_counts.astype(np.int64) * self.span


@dataclass(frozen=True, slots=True)
class Layout:
    """The texts whose outputs lie end to end in a job's tensors."""

    lengths: NDArray[np.int32]  # [n] tokens
    span_counts: NDArray[np.int32] | None = None  # [n]
    heads: tuple[int, ...] = ()  # attention heads whose weights are among the outputs

    def counts(self, name: str) -> Ints:
        """Return how many entries each text has along the first dimension of an output: [n]."""
        long = self.lengths.astype(np.int64)
        if name.startswith("attentions"):
            rows = long * len(self.heads)
            return rows if name.endswith(".scales") else rows * long
        unit = UNITS.get(name.partition(".")[0], "text")
        if unit == "span":
            assert self.span_counts is not None
            return self.span_counts.astype(np.int64)
        if unit == "token":
            return long
        return np.ones_like(long)

    def rows(self, name: str, first: int, last: int) -> slice:
        """Return where the texts from `first` up to `last` stand in an output."""
        counts = self.counts(name)
        start = int(counts[:first].sum())
        return slice(start, start + int(counts[first:last].sum()))

    def part(self, first: int, last: int) -> Layout:
        """Return the layout of the texts from `first` up to `last`."""
        spans = None if self.span_counts is None else self.span_counts[first:last]
        return Layout(self.lengths[first:last], spans, self.heads)


def entries(tensors: Tensors, layout: Layout, name: str) -> Ints:
    """Return how many entries each text has along the first dimension of one of the tensors: [n].

    Where only the worker could know it, the output has a column "NAME.counts" beside it.
    """
    output, _, column = name.partition(".")
    counts = tensors.get(f"{output}.counts")
    return layout.counts(name) if counts is None or column == "counts" else counts.astype(np.int64)


def cut(tensors: Tensors, layout: Layout, first: int, last: int) -> Tensors:
    """Return the entries of the texts from `first` up to `last`."""
    found = {}
    for name, values in tensors.items():
        ends = np.cumsum(entries(tensors, layout, name))
        start, end = (int(ends[text - 1]) if text else 0 for text in (first, last))
        found[name] = values[start:end]
    return found


def outputs_of(tensors: Tensors) -> list[str]:
    """Return the names of the tensors of numbers: attention after all else, and layers in their order.

    Sparse weights are not among them, which are several columns of different types.
    """
    named = [name for name in tensors if not name.endswith(".scales") and not name.startswith("sparse_weights")]
    return sorted(named, key=lambda name: (name.startswith("attentions"), int(name.partition(".")[2] or 0)))


def join(parts: Sequence[Tensors]) -> Tensors:
    """Return the rows of several pieces of a job, end to end."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
