"""Test answer spans against a matrix of every token by every other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertstream.workers.engine import answers
from bertstream.workers.engine.answers import best_answers

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Answer = tuple[int, int, float]


def probabilities(logits: Floats, allowed: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
    powers = np.exp(np.where(allowed, logits, np.float32(-10000.0)) - logits[allowed].max())
    found: Floats = powers / powers.sum()
    return found


def reference(logits: Floats, start: int, length: int, k: int, limit: int) -> tuple[list[Answer], float]:
    """Return the answers of one text, and the score of there being none.

    logits: [tokens, 2].
    """
    inside = (np.arange(len(logits)) >= start) & (np.arange(len(logits)) < start + length)
    allowed = inside.copy()
    allowed[0] = True
    first, last = (probabilities(logits[:, side], allowed) for side in (0, 1))
    none = float(first[0] * last[0])
    first[0] = last[0] = 0.0
    scores = np.outer(first, last)
    candidates = np.tril(np.triu(np.ones_like(scores)), limit - 1).astype(bool) & np.outer(inside, inside)
    found = [(int(i), int(j), float(scores[i, j])) for i, j in zip(*candidates.nonzero(), strict=True)]
    return sorted(found, key=lambda answer: (-answer[2], answer[:2]))[:k], none


def check(texts: list[Floats], starts: list[int], lengths: list[int], k: int, limit: int) -> None:
    sizes = np.array([len(text) for text in texts], np.int32)
    spans = np.array(starts, np.int32), np.array(lengths, np.int32)
    found = best_answers(torch.from_numpy(np.concatenate(texts)), sizes, *spans, k, limit)
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        **dict.fromkeys(("starts", "ends", "scores"), (len(texts), k)),
        "none": (len(texts),),
    }
    for row, text in enumerate(texts):
        candidates, none = reference(text, starts[row], lengths[row], len(text) ** 2, limit)
        expected, own = candidates[:k], {(first, last): score for first, last, score in candidates}
        padding = [-1] * (k - len(expected))
        places = list(zip(found["starts"][row].tolist(), found["ends"][row].tolist(), strict=True))
        assert places[len(expected) :] == [(-1, -1)] * len(padding)
        assert len({*places[: len(expected)]}) == len(expected)
        for place, (first, last, score) in zip(places, expected, strict=False):
            # Two that differ by no more than sums of floats do in another order may have changed places.
            assert place == (first, last) or own[place] == pytest.approx(score, rel=1e-6, abs=0)
        scores = np.array([answer[2] for answer in expected] + [0.0] * len(padding))
        np.testing.assert_allclose(found["scores"][row], scores, atol=1e-6, rtol=1e-5)
        np.testing.assert_allclose(found["none"][row], none, atol=1e-6, rtol=1e-5)


@st.composite
def spans(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw the tokens of a text, and the start and the length of its span."""
    tokens = draw(st.integers(3, 60))
    start = draw(st.integers(0, tokens - 1))
    return tokens, start, draw(st.integers(0, tokens - start) | st.integers(0, min(1, tokens - start)))


@given(st.lists(spans(), min_size=1, max_size=6), st.integers(1, 30), st.integers(1, 70), st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_random_logits(texts: list[tuple[int, int, int]], k: int, limit: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = [random.normal(0, 3, (tokens, 2)).astype(np.float32) for tokens, _, _ in texts]
    check(logits, [start for _, start, _ in texts], [length for _, _, length in texts], k, limit)


@given(st.lists(spans(), min_size=1, max_size=4), st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_ties_go_to_the_earlier_and_then_the_shorter(
    texts: list[tuple[int, int, int]], k: int, limit: int, seed: int
) -> None:
    """Few powers of two make products equal exactly where they are meant to be."""
    random = np.random.default_rng(seed)
    logits = [np.log(2.0 ** random.integers(0, 2, (tokens, 2))).astype(np.float32) for tokens, _, _ in texts]
    for (tokens, start, length), each in zip(texts, logits, strict=True):
        found = best_answers(
            torch.from_numpy(each), np.array([tokens]), np.array([start]), np.array([length]), k, limit
        )
        chosen = [
            (-round(score, 6), int(i), int(j))
            for i, j, score in zip(*(found[name][0].tolist() for name in ("starts", "ends", "scores")), strict=True)
            if i >= 0
        ]
        expected, _ = reference(each, start, length, tokens * tokens, limit)
        rounded = sorted((-round(score, 6), i, j) for i, j, score in expected)
        assert chosen == rounded[:k]


def test_an_answer_is_never_longer_than_asked_for_and_never_ends_before_it_starts() -> None:
    random = np.random.default_rng(3)
    logits = torch.from_numpy(random.normal(0, 1, (40, 2)).astype(np.float32))
    found = best_answers(logits, np.array([40]), np.array([5]), np.array([30]), 500, 4)
    real = found["starts"][0] >= 0
    starts, ends = found["starts"][0][real], found["ends"][0][real]
    assert len(starts) == 30 * 4 - 6
    assert bool(((ends - starts >= 0) & (ends - starts < 4)).all())
    assert int(starts.min()) == 5
    assert int(ends.max()) == 34


def test_logits_below_those_of_tokens_that_may_not_answer() -> None:
    """Disallowed tokens have -10000, as in transformers, which wins where all others are lower still."""
    text = np.full((5, 2), -10000.0, np.float32)
    text[1] = 50.0  # not allowed
    found = best_answers(torch.from_numpy(text), np.array([5]), np.array([2]), np.array([3]), 1, 9)
    assert found["none"].item() == pytest.approx(1 / 25)
    assert found["scores"].item() == pytest.approx(1 / 25)


def test_few_candidates_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    texts = [random.normal(0, 3, (tokens, 2)).astype(np.float32) for tokens in (9, 30, 3, 30, 12)]
    starts, lengths = [2, 4, 1, 10, 0], [5, 20, 0, 20, 12]
    for limit in (1, 500, 3000):
        monkeypatch.setattr(answers, "CANDIDATES", limit)
        check(texts, starts, lengths, 7, 6)


def test_no_texts() -> None:
    nothing = np.zeros(0, np.int32)
    found = best_answers(torch.zeros(0, 2), nothing, nothing, nothing, 3, 15)
    assert tuple(found["starts"].shape) == (0, 3)
