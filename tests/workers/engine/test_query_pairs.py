"""Rows of a query and a document become texts of their own, each different query once."""

from __future__ import annotations

import numpy as np

from bertstream.workers.contract import Batch, Spans
from bertstream.workers.engine.query_pairs import divide


def ints(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(numbers, np.int32)


def test_each_query_is_there_once() -> None:
    ids = ints(1, 2, 7, 8, 9, 1, 2, 6, 3, 5, 5)
    spans = Spans(ints(4, 3, 2), ints(0, 1, 2, 4, 0, 1, 2, 0, 2), ints(*[1] * 9))
    divided = divide(Batch(ids, ints(5, 3, 3), None, spans, ints(1, 1, 1), ints(2, 2, 1)))
    assert divided.query_of.tolist() == [0, 0, 1]
    texts = divided.texts
    assert [part.tolist() for part in np.split(texts.ids, np.cumsum(texts.lengths)[:-1])] == [
        *([1, 2], [3], [7, 8, 9]),
        *([6], [5, 5]),
    ]
    assert texts.attended is not None
    assert texts.attended.tolist() == [1, 1, 3, 1, 2]  # documents attend to all of themselves
    assert texts.spans is not None
    assert texts.spans.counts.tolist() == [2, 1, 2, 1, 1]
    assert texts.spans.starts.tolist() == [0, 1, 0, 0, 2, 0, 1]


def test_queries_that_differ_in_what_counts_are_two() -> None:
    spans = Spans(ints(2, 1), ints(0, 1, 1), ints(1, 1, 1))
    divided = divide(Batch(ints(4, 5, 4, 5), ints(2, 2), None, spans, None, ints(1, 1)))
    assert divided.query_of.tolist() == [0, 1]
    assert divided.texts.attended is None
