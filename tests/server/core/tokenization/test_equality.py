"""Every column equals that of transformers' fast tokenizers, for every kind of input and of truncation."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertstream.server.core.tokenization import (
    Ids,
    Pairs,
    Side,
    Strategy,
    Texts,
    TextTokenizer,
    TokenizeOptions,
    Truncation,
    Words,
)
from tests.server.core.tokenization.conftest import Case
from tests.server.core.tokenization.reference import ALL_COLUMNS, AWKWARD, EVERYTHING, Row, our_rows, reference_rows

SEED = 20240607
SIDES: tuple[Side, ...] = ("right", "left")
# neither protobuf nor Rust has surrogates
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
fuzzing = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("special", [True, False])
def test_texts(case: Case, special: bool) -> None:
    ours = case.ours.tokenize(Texts(AWKWARD), replace(EVERYTHING, add_special_tokens=special))
    assert our_rows(ours) == reference_rows(case.reference, AWKWARD, add_special_tokens=special)
    assert ours.errors == {}
    assert not ours.truncated.any()


@pytest.mark.parametrize("special", [True, False])
def test_pairs(case: Case, special: bool) -> None:
    pairs = Pairs([a for a in AWKWARD for _ in AWKWARD], [b for _ in AWKWARD for b in AWKWARD])
    ours = case.ours.tokenize(pairs, replace(EVERYTHING, add_special_tokens=special))
    assert our_rows(ours) == reference_rows(case.reference, pairs.firsts, pairs.seconds, add_special_tokens=special)


@pytest.mark.parametrize("special", [True, False])
def test_words(case: Case, special: bool) -> None:
    lists = [text.split(" ") for text in AWKWARD] + [[], ["", "a", ""], [" b ", "c d"], ["中文"], ["👩‍👩‍👧‍👦", "x"]]
    words = Words([word for words in lists for word in words], np.array(list(map(len, lists)), np.int32))
    ours = case.ours.tokenize(words, replace(EVERYTHING, add_special_tokens=special))
    expected = reference_rows(case.reference, lists, is_split_into_words=True, add_special_tokens=special)
    assert our_rows(ours) == expected


@given(texts=st.lists(any_text, min_size=1, max_size=5))
@fuzzing
def test_any_texts(case: Case, texts: list[str]) -> None:
    rows = reference_rows(case.reference, texts)
    assert our_rows(case.ours.tokenize(Texts(texts), EVERYTHING)) == rows
    ids_alone = case.ours.tokenize(Texts(texts), replace(EVERYTHING, columns=frozenset()))
    assert ids_alone.ids.tolist() == [id for row in rows for id in row.ids]
    assert ids_alone.lengths.tolist() == [len(row.ids) for row in rows]


@given(
    pairs=st.lists(st.tuples(any_text, any_text), min_size=1, max_size=4),
    max_length=st.integers(5, 40),
    side=st.sampled_from(SIDES),
)
@fuzzing
def test_any_pairs(case: Case, pairs: list[tuple[str, str]], max_length: int, side: Side) -> None:
    firsts, seconds = ([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    options = replace(EVERYTHING, truncation=Truncation("longest_first", max_length, side))
    expected = reference_rows(case.reference, firsts, seconds, truncation=True, max_length=max_length, side=side)
    assert our_rows(case.ours.tokenize(Pairs(firsts, seconds), options)) == expected


@given(lists=st.lists(st.lists(any_text, max_size=8), min_size=1, max_size=4))
@fuzzing
def test_any_words(case: Case, lists: list[list[str]]) -> None:
    words = Words([word for words in lists for word in words], np.array(list(map(len, lists)), np.int32))
    expected = reference_rows(case.reference, lists, is_split_into_words=True)
    assert our_rows(case.ours.tokenize(words, EVERYTHING)) == expected


def _random_texts(rng: random.Random, count: int, longest: int) -> list[str]:
    words = ["the", "fox", "dog", "jumps", "狐", "over"]
    return [" ".join(rng.choices(words, k=rng.randint(0, longest))) for _ in range(count)]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("max_length", [2, 3, 8, 13])
def test_truncated_texts(case: Case, max_length: int, special: bool, side: Side) -> None:
    texts = _random_texts(random.Random(SEED), 60, 40) + AWKWARD
    options = TokenizeOptions(
        Truncation("longest_first", max_length, side), special, columns=ALL_COLUMNS, allow_empty=True
    )
    ours = case.ours.tokenize(Texts(texts), options)
    kwargs = {"truncation": True, "max_length": max_length, "add_special_tokens": special}
    assert our_rows(ours) == reference_rows(case.reference, texts, side=side, **kwargs)
    only_first = replace(options, truncation=replace(options.truncation, strategy="only_first"))
    assert our_rows(case.ours.tokenize(Texts(texts), only_first)) == our_rows(ours)
    untruncated = case.ours.tokenize(Texts(texts), replace(EVERYTHING, add_special_tokens=special))
    assert ours.truncated.tolist() == (untruncated.lengths > ours.lengths).tolist()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("max_length", [4, 5, 8, 17])
def test_pairs_cut_from_the_longest(case: Case, max_length: int, special: bool, side: Side) -> None:
    rng = random.Random(SEED)
    firsts, seconds = _random_texts(rng, 150, 30), _random_texts(rng, 150, 30)
    options = TokenizeOptions(
        Truncation("longest_first", max_length, side), special, columns=ALL_COLUMNS, allow_empty=True
    )
    ours = case.ours.tokenize(Pairs(firsts, seconds), options)
    kwargs = {"truncation": "longest_first", "max_length": max_length, "add_special_tokens": special}
    assert our_rows(ours) == reference_rows(case.reference, firsts, seconds, side=side, **kwargs)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("strategy", ["only_first", "only_second"])
@pytest.mark.parametrize("max_length", [5, 9, 24])
def test_pairs_of_which_one_is_cut(case: Case, max_length: int, strategy: Strategy, side: Side) -> None:
    rng = random.Random(SEED)
    firsts, seconds = _random_texts(rng, 80, 24), _random_texts(rng, 80, 24)
    options = replace(EVERYTHING, truncation=Truncation(strategy, max_length, side))
    ours = case.ours.tokenize(Pairs(firsts, seconds), options)
    expected = []
    for index, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        try:
            expected += reference_rows(
                case.reference, [first], [second], side=side, truncation=strategy, max_length=max_length
            )
        except Exception:
            assert ours.errors[index].reason == "INVALID_TEXT_LENGTH"
        else:
            assert index not in ours.errors
    assert 0 < len(expected) < 80
    assert our_rows(ours) == expected


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(("max_length", "stride"), [(5, 0), (5, 2), (8, 3), (20, 17), (37, 10)])
def test_windows(case: Case, max_length: int, stride: int, special: bool, side: Side) -> None:
    texts = _random_texts(random.Random(SEED), 60, 90) + AWKWARD
    truncation = Truncation("longest_first", max_length, side)
    options = TokenizeOptions(truncation, special, True, stride, columns=ALL_COLUMNS, allow_empty=True)
    ours = case.ours.tokenize(Texts(texts), options)
    kwargs = {"truncation": True, "max_length": max_length, "stride": stride, "add_special_tokens": special}
    expected = reference_rows(case.reference, texts, side=side, return_overflowing_tokens=True, **kwargs)
    assert our_rows(ours) == expected
    mapping = case.reference(texts, return_overflowing_tokens=True, **kwargs)["overflow_to_sample_mapping"]
    assert ours.text_indexes.tolist() == mapping
    assert not ours.truncated.any()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("strategy", ["only_first", "only_second"])
@pytest.mark.parametrize(("max_length", "stride"), [(9, 0), (12, 2), (30, 9), (60, 30)])
def test_windows_of_pairs(
    case: Case, max_length: int, stride: int, strategy: Strategy, special: bool, side: Side
) -> None:
    rng = random.Random(SEED)
    short, long = _random_texts(rng, 60, 6), _random_texts(rng, 60, 120)
    firsts, seconds = (short, long) if strategy == "only_second" else (long, short)
    truncation = Truncation(strategy, max_length, side)
    options = TokenizeOptions(truncation, special, True, stride, columns=ALL_COLUMNS, allow_empty=True)
    ours = case.ours.tokenize(Pairs(firsts, seconds), options)
    kwargs = {"truncation": strategy, "max_length": max_length, "stride": stride, "add_special_tokens": special}
    good = [index for index in range(60) if index not in ours.errors]  # a panic in Rust costs the whole batch
    expected = [
        reference_rows(case.reference, [first], [second], side=side, return_overflowing_tokens=True, **kwargs)
        for first, second in ((firsts[index], seconds[index]) for index in good)
    ]
    assert len(good) > 10
    assert our_rows(ours) == [row for rows in expected for row in _with_segments_of_the_first(rows)]
    assert ours.text_indexes.tolist() == [index for index, rows in zip(good, expected, strict=True) for _ in rows]
    assert ours.lengths.size > len(good)
    assert not ours.truncated.any()


def _with_segments_of_the_first(rows: list[Row]) -> list[Row]:
    """Put segments of 0 in all rows if the first has no others: Rust forgets that in later windows of second texts."""
    if any(rows[0].type_ids):
        return rows
    return [row._replace(type_ids=[0] * len(row.ids)) for row in rows]


def test_windows_of_words(case: Case) -> None:
    lists = [text.split() for text in _random_texts(random.Random(SEED), 30, 60)]
    words = Words([word for words in lists for word in words], np.array(list(map(len, lists)), np.int32))
    options = replace(EVERYTHING, truncation=Truncation("longest_first", 12), windows=True, stride=4)
    kwargs: dict[str, Any] = {"truncation": True, "max_length": 12, "stride": 4, "return_overflowing_tokens": True}
    expected = reference_rows(case.reference, lists, is_split_into_words=True, **kwargs)
    assert our_rows(case.ours.tokenize(words, options)) == expected


@pytest.mark.parametrize("text", ["word " * 20_000, "x" * 100_000, "狐 " * 50_000, " " * 100_000, "é👍" * 20_000])
def test_a_long_text(case: Case, text: str) -> None:
    options = TokenizeOptions(Truncation("longest_first", 512), columns=ALL_COLUMNS)
    ours = case.ours.tokenize(Texts(["before", text, "after"]), options)
    expected = reference_rows(case.reference, ["before", text, "after"], truncation=True, max_length=512)
    assert our_rows(ours) == expected


def test_a_very_long_text(minilm: TextTokenizer) -> None:
    text = "A megabyte, with 狐 and 👍. " * 40_000
    ours = minilm.tokenize(Texts([text, "after"]), TokenizeOptions(Truncation("longest_first", 256)))
    assert len(text) > 1_000_000
    assert ours.lengths.tolist() == [256, 3]
    assert ours.truncated.tolist() == [True, False]


def test_detokenizing(case: Case) -> None:
    tokenized = case.ours.tokenize(Texts(AWKWARD), replace(EVERYTHING, columns=frozenset()))
    lists = case.reference(AWKWARD)["input_ids"]
    for skip in (True, False):
        ours = case.ours.detokenize(Ids(tokenized.ids, tokenized.lengths), skip_special_tokens=skip)
        assert ours.texts == case.reference.batch_decode(lists, skip_special_tokens=skip)
        assert ours.errors == {}
