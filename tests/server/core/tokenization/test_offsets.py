"""Offsets of tokens are right in the units of other languages, and behind prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers, processors

from bertstream.server.core.tokenization import (
    OffsetUnit,
    Pairs,
    Texts,
    TextTokenizer,
    Tokenized,
    TokenizeOptions,
    Truncation,
    Words,
)
from tests.server.core.tokenization.conftest import Case
from tests.server.core.tokenization.reference import AWKWARD, EVERYTHING, our_rows

ENCODINGS: dict[OffsetUnit, tuple[str, int]] = {"utf16": ("utf-16-le", 2), "utf8": ("utf-8", 1)}
units = pytest.mark.parametrize("unit", list(ENCODINGS))


def _slices(text: str, rows: list[tuple[int, int]], unit: OffsetUnit) -> list[str]:
    if unit == "code_points":
        return [text[start:end] for start, end in rows]
    encoding, width = ENCODINGS[unit]
    encoded = text.encode(encoding)
    return [encoded[start * width : end * width].decode(encoding) for start, end in rows]


def _in_unit(unit: OffsetUnit, special: bool = True) -> TokenizeOptions:
    return replace(EVERYTHING, offset_unit=unit, add_special_tokens=special)


@units
def test_units_slice_the_encoded_text(case: Case, unit: OffsetUnit) -> None:
    plain = our_rows(case.ours.tokenize(Texts(AWKWARD), EVERYTHING))
    other = our_rows(case.ours.tokenize(Texts(AWKWARD), _in_unit(unit)))
    for text, expected, row in zip(AWKWARD, plain, other, strict=True):
        assert _slices(text, row.offsets, unit) == _slices(text, expected.offsets, "code_points")
        assert row._replace(offsets=[]) == expected._replace(offsets=[])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@units
def test_units_of_any_text(bpe: TextTokenizer, unit: OffsetUnit, texts: list[str]) -> None:
    plain, other = (our_rows(bpe.tokenize(Texts(texts), options)) for options in (EVERYTHING, _in_unit(unit)))
    for text, expected, row in zip(texts, plain, other, strict=True):
        assert _slices(text, row.offsets, unit) == _slices(text, expected.offsets, "code_points")


@units
def test_units_of_pairs(bpe: TextTokenizer, unit: OffsetUnit) -> None:
    seconds = AWKWARD[::-1]
    both = our_rows(bpe.tokenize(Pairs(AWKWARD, seconds), _in_unit(unit, special=False)))
    first, second = (our_rows(bpe.tokenize(Texts(t), _in_unit(unit, special=False))) for t in (AWKWARD, seconds))
    assert [row.offsets for row in both] == [a.offsets + b.offsets for a, b in zip(first, second, strict=True)]


@units
def test_units_of_words(bpe: TextTokenizer, unit: OffsetUnit) -> None:
    words = ["plain", "👍🏽👍", "", "naïve", "狐狸", "x👍y"]
    row = our_rows(bpe.tokenize(Words(words, np.array([2, 4], np.int32)), _in_unit(unit)))[1]
    assert {words[2 + word] for word in row.word_ids if word >= 0} == {"naïve", "狐狸", "x👍y"}
    for word, token in zip(row.word_ids, row.offsets, strict=True):
        if word >= 0:
            assert _slices(words[2 + word], [token], unit)[0] in words[2 + word]
    assert row.offsets[-2] == ({"utf16": 3, "utf8": 5}[unit], {"utf16": 4, "utf8": 6}[unit])  # the y


def _after_prompt(tokenizer: TextTokenizer, prompt: str, text: str) -> Tokenized:
    return tokenizer.tokenize(Texts([text]), EVERYTHING, prompt)


def test_a_prompt_has_no_places(minilm: TextTokenizer) -> None:
    row = our_rows(_after_prompt(minilm, "query: ", "which planet?"))[0]
    assert row.tokens == ["[CLS]", "query", ":", "which", "planet", "?", "[SEP]"]
    assert row.offsets == [(0, 0), (0, 0), (0, 0), (0, 5), (6, 12), (12, 13), (0, 0)]
    assert row.special_tokens_mask == [True, True, True, False, False, False, True]
    assert row.word_ids == [-1, -1, -1, 0, 1, 2, -1]
    assert row.sequence_ids == [-1, -1, -1, 0, 0, 0, -1]


def test_a_token_of_prompt_and_text_is_clipped(minilm: TextTokenizer) -> None:
    row = our_rows(_after_prompt(minilm, "planet", "s and moons"))[0]
    assert row.tokens == ["[CLS]", "planets", "and", "moons", "[SEP]"]
    assert row.offsets == [(0, 0), (0, 1), (2, 5), (6, 11), (0, 0)]
    assert row.word_ids == [-1, 0, 1, 2, -1]


def test_a_prompt_is_only_for_the_first_of_a_pair(minilm: TextTokenizer) -> None:
    row = our_rows(minilm.tokenize(Pairs(["one"], ["two"]), EVERYTHING, "a b "))[0]
    assert row.tokens == ["[CLS]", "a", "b", "one", "[SEP]", "two", "[SEP]"]
    assert row.offsets == [(0, 0), (0, 0), (0, 0), (0, 3), (0, 0), (0, 3), (0, 0)]
    assert row.sequence_ids == [-1, -1, -1, 0, -1, 1, -1]
    assert row.word_ids == [-1, -1, -1, 0, -1, 0, -1]


@units
def test_units_after_a_prompt(case: Case, unit: OffsetUnit) -> None:
    prompt = "Frage 👍: "
    plain, other = (
        our_rows(case.ours.tokenize(Texts(AWKWARD), options, prompt)) for options in (EVERYTHING, _in_unit(unit))
    )
    for text, expected, row in zip(AWKWARD, plain, other, strict=True):
        assert _slices(text, row.offsets, unit) == _slices(text, expected.offsets, "code_points")


def test_ids_do_not_depend_on_the_columns(case: Case) -> None:
    alone = case.ours.tokenize(Texts(AWKWARD), replace(EVERYTHING, columns=frozenset()), "query: ")
    everything = case.ours.tokenize(Texts(AWKWARD), EVERYTHING, "query: ")
    joined = case.ours.tokenize(Texts([f"query: {text}" for text in AWKWARD]), EVERYTHING)
    assert alone.ids.tolist() == everything.ids.tolist() == joined.ids.tolist()
    mask = case.ours.tokenize(
        Texts(AWKWARD), replace(EVERYTHING, columns=frozenset({"special_tokens_mask"})), "query: "
    )
    assert mask.special_tokens_mask is not None
    assert everything.special_tokens_mask is not None
    assert mask.special_tokens_mask.tolist() == everything.special_tokens_mask.tolist()


def test_a_space_before_the_first_token_that_stays_is_not_part_of_it(cases: dict[str, Case]) -> None:
    tokenizer = Tokenizer.from_file(str(cases["byte_level_bpe"].path))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=True)
    ours = TextTokenizer(tokenizer, vocabulary_size=701, type_vocabulary_size=1)
    options = replace(EVERYTHING, truncation=Truncation("longest_first", 3, "left"))
    row = our_rows(ours.tokenize(Texts(["a fox and the dog"]), options))[0]
    assert row.tokens[1] == "Ġdog"
    assert row.offsets[1] == (14, 17)  # (13, 17) in transformers
