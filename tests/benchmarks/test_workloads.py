"""The texts that all contenders get."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import workloads
from benchmarks.workloads import LONGEST, MAX_LENGTH, SHORTEST, Sizes, make


def count(texts: Sequence[str]) -> list[int]:
    """Count two special tokens, and one for every four characters of a word or part of them."""
    return [2 + sum(-(-len(word) // 4) for word in text.split()) for text in texts]


def broken_count(texts: Sequence[str]) -> list[int]:
    """Count one token more for a word among others than for the word alone."""
    return [tokens + max(0, len(text.split()) - 1) for tokens, text in zip(count(texts), texts, strict=True)]


def test_lengths_are_lognormal_and_bounded() -> None:
    lengths = workloads.lognormal_lengths(20_000, np.random.default_rng(0))
    assert (lengths.min(), lengths.max()) == (SHORTEST, LONGEST)
    logarithms = np.log(lengths[(lengths > SHORTEST) & (lengths < LONGEST)])
    assert abs(logarithms.mean() - workloads.MU) < 0.03
    assert abs(logarithms.std() - workloads.SIGMA) < 0.03


@pytest.mark.parametrize("words", [1, 3, 400, 5000])
def test_a_text_has_as_many_words_as_asked_for(words: int) -> None:
    text = workloads.text_of_words(words, np.random.default_rng(words))
    assert len(text.split()) == words
    assert set(text.split()) <= {word for sentence in workloads.sentences() for word in sentence.split()}


def test_equal_texts_have_exactly_their_tokens() -> None:
    workload = workloads.equal("tokens-128", 20, 128, count, seed=0)
    assert count(workload.texts) == [128] * 20
    assert workload.total_tokens == 20 * 128
    assert len(set(workload.texts)) == 20


def test_a_tokenizer_for_which_that_fails_is_noticed() -> None:
    with pytest.raises(ValueError, match="tokens-64: with this tokenizer"):
        workloads.equal("tokens-64", 2, 64, broken_count, seed=0)


def test_workloads_are_the_same_each_time_and_differ_from_each_other() -> None:
    sizes = Sizes(lognormal=30, tokens_128=4, tokens_512=4, single=30)
    first, second = make(sizes, count), make(sizes, count)
    assert first == second
    assert set(first) == {"lognormal", "tokens-128", "tokens-512", "single", "calibration", "quality"}
    assert first["lognormal"].texts != first["single"].texts
    assert not set(first["calibration"].texts) & set(first["lognormal"].texts)
    assert max(first["lognormal"].tokens) <= MAX_LENGTH


def test_many_texts_are_some_that_begin_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "MOST_MADE", 10)
    made = workloads.equal("tokens-128", 35, 128, count, seed=0)
    assert (len(made.texts), len(set(made.texts))) == (35, 35)
    assert count(made.texts) == list(made.tokens) == [128] * 35
    assert [sorted(text.split()) for text in made.texts[10:20]] == [sorted(text.split()) for text in made.texts[:10]]
    varied = workloads.lognormal("lognormal", 35, count, seed=0)
    assert list(varied.tokens) == [min(tokens, MAX_LENGTH) for tokens in count(varied.texts)]
    assert varied.texts[:10] == workloads.lognormal("lognormal", 10, count, seed=0).texts


def test_a_text_is_rotated_by_its_words() -> None:
    found = [workloads.rotated("one two three", words) for words in range(4)]
    assert found == ["one two three", "two three one", "three one two", "one two three"]


def test_single_texts_may_all_have_as_many_tokens() -> None:
    sizes = Sizes(lognormal=4, tokens_128=4, tokens_512=4, single=6)
    assert make(sizes, count, single_tokens=128)["single"].tokens == (128,) * 6


def test_every_so_many_th_text() -> None:
    workload = workloads.Workload("some", ("a", "b", "c", "d", "e"), (1, 2, 3, 4, 5))
    assert workloads.every(workload, 2) == workloads.Workload("some", ("a", "c", "e"), (1, 3, 5))
    assert workloads.every(workload, 8).texts == ("a",)


def test_sizes_shrink_to_four() -> None:
    assert Sizes(100, 50, 10, 8).times(0.1) == Sizes(10, 5, 4, 4)


def test_a_costly_model_gets_fewer_texts_and_not_as_few_calls() -> None:
    assert Sizes(512, 256, 64, 100).at_cost(8.0) == Sizes(64, 32, 8, 35)
    assert Sizes(512, 256, 64, 100).at_cost(1.0) == Sizes(512, 256, 64, 100)


def test_texts_are_saved_for_other_processes(tmp_path: Path) -> None:
    workload = workloads.lognormal("single", 5, count, seed=0)
    assert json.loads(workload.save(tmp_path).read_text(encoding="utf-8")) == list(workload.texts)
