from __future__ import annotations

import numpy as np
import pytest

from bertstream.server.core.layout import Layout, join

LENGTHS, SPANS = [3, 1, 4], [2, 0, 1]
LAYOUT = Layout(np.array(LENGTHS, np.int32), np.array(SPANS, np.int32), (2, 0))
ONE = [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("pooled", ONE),
        ("pooled.scales", ONE),
        ("pooled_spans", SPANS),
        ("last_hidden_state", LENGTHS),
        ("hidden_states.3", LENGTHS),
        ("attentions.3", [18, 2, 32]),
        ("attentions.3.scales", [6, 2, 8]),
        ("mask_candidates.ids", SPANS),
        ("mask_candidates.scores", SPANS),
        ("token_log_probabilities", SPANS),
        ("token_label_scores", LENGTHS),
        ("label_scores", ONE),
        ("label_scores.ids", ONE),
        ("answer_spans.starts", ONE),
        ("answer_spans.none", ONE),
    ],
)
def test_rows_of_each_text(name: str, counts: list[int]) -> None:
    assert LAYOUT.counts(name).tolist() == counts
    assert LAYOUT.rows(name, 1, 3) == slice(counts[0], sum(counts))
    assert LAYOUT.part(1, 3).counts(name).tolist() == counts[1:]


def test_pieces_are_joined_with_their_scales() -> None:
    tensors: dict[str, np.ndarray] = {
        "pooled": np.arange(12, dtype=np.float32).reshape(3, 4),
        "last_hidden_state": np.arange(24, dtype=np.int8).reshape(6, 4),
        "last_hidden_state.scales": np.arange(6, dtype=np.float32),
    }
    halves = [
        {name: values[:3] for name, values in tensors.items()},
        {name: values[3:] for name, values in tensors.items()},
    ]
    joined = join(halves)
    for name, values in tensors.items():
        np.testing.assert_array_equal(joined[name], values)
    assert join(halves[:1]) is halves[0]
