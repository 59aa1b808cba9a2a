"""Take rows of a query and a document apart, so that a query that many rows share is computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertstream.workers.contract import Batch, Spans
from bertstream.workers.ragged import Ints, kept_places, rows_of, starts_of


@dataclass(frozen=True, slots=True)
class Divided:
    """Hold u different queries and n documents."""

    texts: Batch  # [u + n], the queries first
    query_of: Ints  # [n] which of the texts is each document's query


def divide(batch: Batch) -> Divided:
    """Take n rows apart; `batch.queries` says where, and every row has its tokens that count among the spans."""
    assert batch.queries is not None
    assert batch.spans is not None
    queries, starts = batch.queries.astype(np.int64), starts_of(batch.lengths)
    kept = _kept(batch)
    firsts, query_of = _distinct(batch, queries, starts, kept)
    lengths = np.concatenate([queries[firsts], batch.lengths - queries])
    rows = rows_of(np.concatenate([starts[firsts], starts + queries]), lengths)
    marks = kept[rows]
    ids, type_ids = batch.ids[rows], None if batch.type_ids is None else batch.type_ids[rows]
    attended = None
    if batch.attended is not None:
        attended = np.concatenate([batch.attended[firsts], batch.lengths - batch.queries]).astype(np.int32)
    counts, places = kept_places(marks, lengths)
    spans = Spans(counts, places, np.ones_like(places))
    texts = Batch(ids, lengths.astype(np.int32), type_ids, spans, attended)
    return Divided(texts, query_of)


def _kept(batch: Batch) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    assert batch.spans is not None
    kept = np.zeros(batch.ids.size, np.bool_)
    kept[np.repeat(starts_of(batch.lengths), batch.spans.counts) + batch.spans.starts] = True
    return kept


def _distinct(
    batch: Batch, queries: Ints, starts: Ints, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[Ints, Ints]:
    """Return the first row of each different query, and which of these each row has."""
    known: dict[tuple[bytes, bytes, int], int] = {}
    firsts, found = list[int](), list[int]()
    attended = queries if batch.attended is None else batch.attended
    for row, (start, size) in enumerate(zip(starts.tolist(), queries.tolist(), strict=True)):
        its = slice(start, start + size)
        key = (batch.ids[its].tobytes(), kept[its].tobytes(), int(attended[row]))
        if key not in known:
            known[key] = len(firsts)
            firsts.append(row)
        found.append(known[key])
    return np.array(firsts, np.int64), np.array(found, np.int64)
