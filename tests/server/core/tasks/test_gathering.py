"""Whole items are gathered from the workers' outcomes, which may begin and end anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertstream.server.core import errors
from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.layout import AnswerSizes, Layout
from bertstream.server.core.tasks.base import Rows
from bertstream.server.core.tasks.gathering import gather, item_costs, tensor_sizes, window_costs
from bertstream.workers.contract import Batch, HeadOptions, Output, OutputOptions, Spans
from tests.server.protocols.bertstream_v1.validation.support import description


def rows_of(counts: list[int], copies: list[int] | None = None) -> Rows[None]:
    """Return rows of items with these counts; row i has 1 + i % 3 tokens, and one span less."""
    items = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    lengths = (1 + np.arange(items.size) % 3).astype(np.int32)
    spans = Spans((lengths - 1).astype(np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32))
    batch = Batch(np.zeros(int(lengths.sum()), np.int32), lengths, None, spans)
    made = None if copies is None else np.array(copies, np.int64)
    return Rows(batch, items, {}, np.zeros(len(counts), np.bool_), None, copies=made)


def outcomes(batch: Batch, sizes: list[int], bad: set[int]) -> list[Outcome]:
    """Return outcomes of these sizes, of which those with `bad` numbers failed; entries say their text's index."""
    layout = Layout(batch.lengths, None if batch.spans is None else batch.spans.counts)
    made, start = [], 0
    for number, size in enumerate(sizes):
        error = errors.out_of_memory() if number in bad else None
        texts = np.arange(start, start + size)
        names = ("label_scores", "token_label_scores", "mask_candidates.ids")
        tensors = {name: np.repeat(texts, layout.counts(name)[texts]) for name in names}
        tensors["sparse_weights.counts"] = texts % 4  # which nobody but the worker knows before
        tensors["sparse_weights.ids"] = np.repeat(texts, texts % 4)
        made.append(Outcome(start, size, {} if error else tensors, error))
        start += size
    return made


@given(st.data())
def test_items_with_a_failed_row_are_left_out_whole(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    rows = rows_of(counts)
    sizes: list[int] = []
    while sum(sizes) < rows.items.size:
        sizes.append(data.draw(st.integers(1, rows.items.size - sum(sizes))))
    bad = data.draw(st.sets(st.integers(0, len(sizes) - 1)))
    computed, failed = gather(rows, 0, rows.items.size, rows.batch, outcomes(rows.batch, sizes, bad))
    of_piece = np.repeat(np.arange(len(sizes)), sizes)
    assert set(failed) == {int(item) for item in rows.items[np.isin(of_piece, list(bad))]}
    left = np.flatnonzero(~np.isin(rows.items, list(failed)))
    assert computed.rows.tolist() == left.tolist()
    for share in computed.shares(None, 100):
        lengths = rows.batch.lengths[share.rows]
        assert share.tensors["label_scores"].tolist() == share.rows.tolist()
        assert share.tensors["token_label_scores"].tolist() == np.repeat(share.rows, lengths).tolist()
        assert share.tensors["mask_candidates.ids"].tolist() == np.repeat(share.rows, lengths - 1).tolist()
        assert share.tensors["sparse_weights.ids"].tolist() == np.repeat(share.rows, share.rows % 4).tolist()
        assert share.row_counts.tolist() == [counts[item] for item in share.items]
    assert [item for share in computed.shares(None, 100) for item in share.items] == sorted(
        set(range(len(counts))) - set(failed)
    )


def test_shares_are_cut_by_their_items_bytes() -> None:
    rows = rows_of([1, 2, 1, 3])
    computed, _ = gather(rows, 0, 7, rows.batch, outcomes(rows.batch, [4, 3], set()))
    shares = list(computed.shares(np.array([10, 10, 50, 5]), 20))
    assert [share.items.tolist() for share in shares] == [[0, 1], [2], [3]]
    assert [share.rows.tolist() for share in shares] == [[0, 1, 2], [3], [4, 5, 6]]
    assert [share.tensors["label_scores"].tolist() for share in shares] == [[0, 1, 2], [3], [4, 5, 6]]
    whole = computed.whole()
    assert [half.items.tolist() for half in computed.halves(whole)] == [[0, 1], [2, 3]]
    assert [half.tensors["label_scores"].size for half in computed.halves(whole)] == [3, 4]


def test_rows_that_become_several_texts_or_none() -> None:
    rows = rows_of([1, 1, 1, 1], copies=[2, 0, 3, 1])
    lengths = np.repeat(rows.batch.lengths, [2, 0, 3, 1])
    one = np.ones(6, np.int32)
    expanded = Batch(np.zeros(int(lengths.sum()), np.int32), lengths, None, Spans(one, one, one))
    computed, failed = gather(rows, 0, 4, expanded, outcomes(expanded, [3, 1, 2], {1}))
    assert list(failed) == [2]
    (share,) = computed.shares(None, 100)
    assert share.items.tolist() == [0, 1, 3]
    assert share.tensors["label_scores"].tolist() == [0, 1, 5]
    first, second = computed.halves(share)
    assert (first.items.tolist(), first.tensors["mask_candidates.ids"].tolist()) == ([0], [0, 1])
    assert (second.items.tolist(), second.tensors["mask_candidates.ids"].tolist()) == ([1, 3], [5])
    assert rows.costs.tolist() == [2, 0, 9, 1]


def test_nothing_to_compute() -> None:
    rows = rows_of([1, 1], copies=[0, 0])
    nothing = np.zeros(0, np.int32)
    computed, failed = gather(rows, 0, 2, Batch(nothing, nothing), [])
    assert failed == {}
    assert computed.whole().tensors == {}
    assert computed.whole().items.tolist() == [0, 1]


def test_costs() -> None:
    rows = rows_of([2, 1, 1], copies=[1, 1, 4, 1])
    starts, costs = item_costs(rows, rows.costs)
    assert starts.tolist() == [0, 2, 3]
    assert costs.tolist() == [1 + 2, 3 * 4, 1]
    large = window_costs(rows, AnswerSizes(100, 10, 0, 1), 0.5)
    spans = rows.batch.lengths - 1
    size = (100 + rows.batch.lengths * 10 + spans) * np.array([1, 1, 4, 1])
    assert large.tolist() == (rows.costs + size // 2).tolist()
    assert [each.size for each in item_costs(rows_of([]), np.zeros(0, np.int64))] == [0, 0]


@pytest.mark.parametrize(
    ("output", "head", "expected"),
    [
        ("label_scores", HeadOptions("sequence_classification", top_k=2), AnswerSizes(16, 0, 0, 0)),
        ("label_scores", HeadOptions("sequence_classification"), AnswerSizes(12, 0, 0, 0)),
        ("token_label_scores", HeadOptions("token_classification"), AnswerSizes(0, 12, 0, 0)),
        ("mask_candidates", HeadOptions("fill_mask", top_k=5), AnswerSizes(0, 0, 0, 40)),
        ("token_log_probabilities", HeadOptions("fill_mask"), AnswerSizes(0, 0, 0, 4)),
        ("answer_spans", HeadOptions("question_answering", top_k=3), AnswerSizes(40, 0, 0, 0)),
        ("sparse_weights", HeadOptions("fill_mask", top_k=3), AnswerSizes(28, 0, 0, 0)),
        ("sparse_weights", HeadOptions("fill_mask"), AnswerSizes(4 + 8 * 30, 0, 0, 0)),
    ],
)
def test_sizes_of_tensors(output: Output, head: HeadOptions, expected: AnswerSizes) -> None:
    model = description(labels=("a", "b", "c"), vocabulary_size=30)
    assert tensor_sizes(OutputOptions((output,), head=head), model) == expected
