"""Entities are chosen among spans as GLiNER chooses them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertstream.server.core.tasks.entity_choice import Candidates, choose

Span = tuple[int, int, int, float]  # first word, last word, label, score
SPANS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 3), st.integers(0, 2), st.sampled_from([0.5, 0.625, 0.75])).map(
        lambda span: (span[0], span[0] + span[1], *span[2:])
    ),
    max_size=14,
    unique_by=lambda span: span[:3],
).map(sorted)


def columns(spans: list[Span]) -> Candidates:
    starts, ends, labels, scores = zip(*spans, strict=True) if spans else ((), (), (), ())
    first, last, label = (np.array(each, np.int64) for each in (starts, ends, labels))
    return Candidates(first, last, label, np.array(scores, np.float32))


def clash(one: Span, other: Span, nested: bool, multi_label: bool) -> bool:
    """Say it by sets of words."""
    own, its = set(range(one[0], one[1] + 1)), set(range(other[0], other[1] + 1))
    if own == its:
        return not multi_label
    return bool(own & its) and not (nested and (own < its or its < own))


@given(spans=SPANS, nested=st.booleans(), multi_label=st.booleans())
def test_the_best_come_first_and_then_those_that_go_with_them(
    spans: list[Span], nested: bool, multi_label: bool
) -> None:
    taken: list[Span] = []
    for span in sorted(spans, key=lambda span: -span[3]):
        if not any(clash(span, other, nested, multi_label) for other in taken):
            taken.append(span)
    found = choose(columns(spans), nested=nested, multi_label=multi_label)
    assert [spans[i] for i in found.tolist()] == sorted(taken, key=lambda span: span[0])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(0, 1)]),
        ({"nested": True}, [(0, 1), (1, 1)]),
        ({"multi_label": True}, [(0, 1), (0, 1)]),
        ({"nested": True, "multi_label": True}, [(0, 1), (0, 1), (1, 1)]),
    ],
)
def test_what_may_share_words(options: dict[str, bool], expected: list[tuple[int, int]]) -> None:
    spans = [(0, 1, 0, 0.875), (0, 1, 1, 0.75), (1, 1, 0, 0.625), (1, 2, 0, 0.5625)]
    found = choose(columns(spans), **{"nested": False, "multi_label": False, **options})
    assert [spans[i][:2] for i in found.tolist()] == expected


def test_of_spans_that_are_there_twice_the_best_stays() -> None:
    spans = [(2, 3, 0, 0.5), (0, 1, 1, 0.5), (2, 3, 0, 0.75), (0, 1, 0, 0.625), (2, 3, 0, 0.625)]
    assert columns(spans).best().tolist() == [3, 1, 2]
