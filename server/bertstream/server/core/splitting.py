"""Cuts the outputs of several texts into messages of at most about 1 MiB: by texts, and one large text by rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.layout import Layout, Tensors, cut, outputs_of

MESSAGE_BYTES = 1 << 20

_BY_ROWS = ("last_hidden_state", "hidden_states", "attentions", "token_vectors")


@dataclass(frozen=True, slots=True)
class Part:
    """The share of one message: the texts from `first` up to `last`, or some rows of one output of a large text."""

    first: int
    last: int
    tensors: Tensors
    layout: Layout
    rows: TensorRows | None = None
    more: bool = False  # whether more of the (only) text follows


@dataclass(frozen=True, slots=True)
class TensorRows:
    """Some rows of one text's states or weights."""

    name: str  # "last_hidden_state", "hidden_states.3", "attentions.3", "token_vectors"
    first_row: int
    values: NDArray[np.generic]  # [rows, width]
    scales: NDArray[np.generic] | None  # [rows]
    more: bool  # whether more rows of this output follow


def split(tensors: Tensors, layout: Layout, sizes: NDArray[np.int64]) -> Iterator[Part]:
    """Yield the share of each message; sizes: [n], the bytes of each text's outputs."""
    ends = np.cumsum(sizes)
    first = 0
    while first < sizes.size:
        before = int(ends[first] - sizes[first])
        last = max(int(np.searchsorted(ends, before + MESSAGE_BYTES, side="right")), first + 1)
        if last == first + 1 and sizes[first] > MESSAGE_BYTES:
            yield from _large(tensors, layout, first)
        else:
            yield Part(first, last, tensors, layout)
        first = last


def rows_of_texts(tensors: Tensors, layout: Layout) -> Iterator[tuple[int, TensorRows]]:
    """Yield the states and weights of one text after another, each with its index, in pieces of at most about 1 MiB."""
    names = [name for name in outputs_of(tensors) if name.startswith(_BY_ROWS)]
    bounds = {
        name: [0, *np.cumsum(layout.counts(name)).tolist()] for name in tensors if name.startswith(_BY_ROWS)
    }  # of all texts at once, since each text is a few microseconds' work

    def of(name: str, text: int) -> NDArray[np.generic]:
        return tensors[name][bounds[name][text] : bounds[name][text + 1]]

    for text, length in enumerate(layout.lengths.tolist()):
        for name in names:
            values, scales = of(name, text), f"{name}.scales"
            if name.startswith("attentions"):
                values = values.reshape(-1, length)
            for rows in _pieces(name, values, of(scales, text) if scales in tensors else None):
                yield text, rows


def rows_of_text(tensors: Tensors, layout: Layout, text: int) -> Iterator[TensorRows]:
    """Yield the states and weights of one text, in pieces of at most about 1 MiB."""
    yield from (rows for _, rows in rows_of_texts(cut(tensors, layout, text, text + 1), layout.part(text, text + 1)))


def _pieces(name: str, values: NDArray[np.generic], scales: NDArray[np.generic] | None) -> Iterator[TensorRows]:
    """Yield the rows of one text's output, [rows, width], with their scales, [rows], in pieces."""
    step = max(1, MESSAGE_BYTES // max(1, values[:1].nbytes))
    for row in range(0, len(values), step):
        piece = slice(row, row + step)
        yield TensorRows(name, row, values[piece], None if scales is None else scales[piece], row + step < len(values))


def _large(tensors: Tensors, layout: Layout, text: int) -> Iterator[Part]:
    """Yield the parts of one large text: its vectors first, then everything else by rows."""
    vectors = {name: values for name, values in tensors.items() if not name.startswith(_BY_ROWS)}
    waiting = Part(text, text + 1, vectors, layout, more=True)
    for rows in rows_of_text(tensors, layout, text):
        yield waiting
        waiting = Part(text, text + 1, tensors, layout, rows, more=True)
    yield replace(waiting, more=False)
