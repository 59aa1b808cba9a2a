"""Labels of words, and entities from them, without a tokenizer."""

from __future__ import annotations

import numpy as np
import pytest

from bertstream.server.core.tasks.entities_groups import (
    FoundEntities,
    Tags,
    find_entities,
    group_words,
    label_words,
    longest,
    mean_scores,
)


def _ints(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(numbers, np.int64)


def test_tags() -> None:
    tags = Tags.of(["O", "B-PER", "I-PER", "PER", "GPE-X", "B-GPE-X"])
    assert tags.tags.tolist() == [0, 1, 1, 1, 2, 2]
    assert tags.begins.tolist() == [False, True, False, False, False, True]
    assert tags.groups == ("O", "PER", "PER", "PER", "X", "GPE-X")


def test_no_words() -> None:
    scores = np.zeros((0, 3), np.float32)
    for aggregation in ("none", "simple", "first", "average", "max"):
        labels, best = label_words(scores, _ints(), aggregation)
        assert labels.size == best.size == 0
    assert group_words(_ints(), _ints(), Tags.of(["O"])).size == 0
    assert mean_scores(np.zeros(0, np.float32), _ints()).size == 0
    none = find_entities(scores, np.zeros(0, np.bool_), _ints(), "max", Tags.of(["O", "B-X", "I-X"]))
    assert longest(none, _ints(), _ints()).firsts.size == 0


def test_labels_of_words() -> None:
    scores = np.array([[0.6, 0.4], [0.1, 0.9], [0.9, 0.1], [0.5, 0.5]], np.float32)
    firsts = _ints(0, 2)  # two words of two tokens
    expected = {"first": ([0, 0], [0.6, 0.9]), "average": ([1, 0], [0.65, 0.7]), "max": ([1, 0], [0.9, 0.9])}
    for aggregation in ("first", "average", "max"):
        labels, best = label_words(scores, firsts, aggregation)
        assert labels.tolist() == expected[aggregation][0]
        assert best.tolist() == pytest.approx(expected[aggregation][1])


def test_the_first_of_equal_scores_counts() -> None:
    scores = np.array([[0.2, 0.8], [0.8, 0.2]], np.float32)
    assert label_words(scores, _ints(0), "max")[0].tolist() == [1]
    assert label_words(np.array([[0.5, 0.5]], np.float32), _ints(0), "simple")[0].tolist() == [0]


def test_scores_that_are_no_numbers_harm_no_other_word() -> None:
    scores = np.array([[np.nan, np.nan], [0.3, 0.7]], np.float32)
    labels, best = label_words(scores, _ints(0, 1), "max")
    assert labels[1] == 1
    assert best[1] == pytest.approx(0.7)
    assert np.isnan(best[0])


def test_groups() -> None:
    tags = Tags.of(["O", "B-PER", "I-PER", "B-LOC"])
    labels, rows = _ints(0, 1, 2, 1, 2, 2, 3, 0), _ints(0, 0, 0, 0, 0, 1, 1, 1)
    assert group_words(labels, rows, tags).tolist() == [0, 1, 3, 5, 6, 7]
    scores = np.array([0.5, 0.6, 0.8, 1, 0, 0.1, 0.2, 0.3], np.float32)
    assert mean_scores(scores, _ints(0, 1, 3)).tolist() == pytest.approx([0.5, 0.7, 0.32])


def _entities(*spans: tuple[int, int, float]) -> FoundEntities:
    firsts, lasts, scores = zip(*spans, strict=True)
    return FoundEntities(_ints(*firsts), _ints(*lasts), np.zeros(len(spans), np.int64), np.array(scores, np.float32))


def _spans(found: FoundEntities) -> list[tuple[int, int, float]]:
    return list(zip(found.firsts.tolist(), found.lasts.tolist(), np.round(found.scores, 3).tolist(), strict=True))


def test_the_longest_of_overlapping_entities() -> None:
    starts, ends = np.arange(0, 60, 2), np.arange(1, 61, 2)
    found = _entities((0, 2, 0.5), (5, 8, 0.5), (4, 8, 0.25), (5, 8, 0.75), (10, 12, 0.5))
    assert _spans(longest(found, starts, ends)) == [(0, 2, 0.5), (4, 8, 0.25), (10, 12, 0.5)]
    assert _spans(longest(_entities((5, 8, 0.5), (5, 8, 0.75)), starts, ends)) == [(5, 8, 0.75)]  # one place
    apart = _entities((0, 2, 0.5), (2, 4, 0.5))
    assert _spans(longest(apart, starts, ends)) == [(0, 2, 0.5), (2, 4, 0.5)]


def test_characters_count_before_tokens() -> None:
    starts, ends = _ints(0, 1, 2, 3), _ints(1, 2, 3, 30)
    assert _spans(longest(_entities((0, 3, 0.75), (2, 4, 0.5)), starts, ends)) == [(2, 4, 0.5)]
    ends = _ints(1, 2, 3, 3)  # the last token has no character
    assert _spans(longest(_entities((0, 3, 0.75), (0, 4, 0.5)), starts, ends)) == [(0, 4, 0.5)]
