"""Cuts texts into consecutive pieces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bertstream.workers.contract import Batch, Spans
from bertstream.workers.ragged import pieces_of


def cut(batch: Batch, limit: int, costs: NDArray[np.integer] | None = None) -> list[tuple[int, Batch]]:
    """Return pieces that cost at most `limit` or have one text, each with the index of its first text.

    costs: [n], of each text; where not given, its number of tokens.
    """
    costs = batch.lengths if costs is None else costs
    return [(first, part(batch, first, last)) for first, last in pieces_of(costs, limit)]


def part(batch: Batch, first: int, last: int) -> Batch:
    """Return the texts from `first` up to `last`, as views."""
    start = int(batch.lengths[:first].sum())
    rows = slice(start, start + int(batch.lengths[first:last].sum()))
    type_ids = None if batch.type_ids is None else batch.type_ids[rows]
    spans = None if batch.spans is None else _spans_part(batch.spans, first, last)
    attended = None if batch.attended is None else batch.attended[first:last]
    queries = None if batch.queries is None else batch.queries[first:last]
    return Batch(batch.ids[rows], batch.lengths[first:last], type_ids, spans, attended, queries)


def _spans_part(spans: Spans, first: int, last: int) -> Spans:
    before = int(spans.counts[:first].sum())
    within = slice(before, before + int(spans.counts[first:last].sum()))
    ids = None if spans.ids is None else spans.ids[within]
    return Spans(spans.counts[first:last], spans.starts[within], spans.lengths[within], ids)
