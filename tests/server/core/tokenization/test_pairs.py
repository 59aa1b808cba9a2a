"""Texts that are in many pairs are tokenized only once, with the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from tokenizers import Encoding, Tokenizer, models, pre_tokenizers

from bertstream.server.core.tokenization import (
    Pairs,
    Side,
    Strategy,
    TextTokenizer,
    Tokenized,
    TokenizeOptions,
    Truncation,
)
from bertstream.server.core.tokenization import sequences as sequences_module
from tests.server.core.tokenization.conftest import Case
from tests.server.core.tokenization.reference import AWKWARD, EVERYTHING

STRATEGIES: Sequence[Strategy] = get_args(Strategy)
SIDES: Sequence[Side] = get_args(Side)


def same(ours: Tokenized, other: Tokenized) -> bool:
    arrays = ("ids", "lengths", "text_indexes", "truncated")
    types = np.array_equal(ours.filled_type_ids(), other.filled_type_ids())
    return types and all(np.array_equal(getattr(ours, name), getattr(other, name)) for name in arrays)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("max_length", [4, 9, 512])
def test_rows_are_those_of_pairs_tokenized_one_by_one(
    case: Case, strategy: Strategy, side: Side, max_length: int
) -> None:
    pairs = Pairs([a for a in AWKWARD for _ in AWKWARD], [b for _ in AWKWARD for b in AWKWARD])
    options = TokenizeOptions(Truncation(strategy, max_length, side))
    ours = case.ours.tokenize(pairs, options, "query: ")
    apart = case.ours.tokenize(pairs, replace(options, columns=EVERYTHING.columns), "query: ")
    assert same(ours, apart)
    assert ours.errors == apart.errors


def test_a_text_is_tokenized_once(minilm: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    encode = sequences_module.encode_batch

    def seen(tokenizer: Tokenizer, sequences: Sequence[str | list[str]], places: bool) -> list[Encoding]:
        encoded.extend(map(str, sequences))
        return encode(tokenizer, sequences, places)

    monkeypatch.setattr(sequences_module, "encode_batch", seen)
    query, documents = "what is it", [f"document {i % 40}" for i in range(50)]
    found = minilm.tokenize(Pairs([query] * 50, documents), TokenizeOptions(Truncation("only_second", 128)))
    assert found.lengths.size == 50
    assert encoded == [query, *documents[:40]]


def test_what_cannot_be_spelled_fails_each_pair_that_it_is_in() -> None:
    strict = Tokenizer(models.WordPiece({"a": 0, "b": 1}, unk_token="[UNK]"))  # has no [UNK]
    strict.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = TextTokenizer(strict, vocabulary_size=2, type_vocabulary_size=2)
    options = TokenizeOptions(Truncation("longest_first", 8))
    found = tokenizer.tokenize(Pairs(["a", "c", "a", "b", "c"], ["b", "a", "c", "b", "c"]), options)
    assert {index: error.reason for index, error in found.errors.items()} == dict.fromkeys((1, 2, 4), "INVALID_TEXT")
    assert found.ids.tolist() == [0, 1, 1, 1]
    assert found.text_indexes.tolist() == [0, 3]


def test_ids_that_the_model_has_not_fail_each_pair_that_they_are_in() -> None:
    plain = Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="a"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = TextTokenizer(plain, vocabulary_size=2, type_vocabulary_size=2)
    found = tokenizer.tokenize(Pairs(["a", "b", "a"], ["b c", "b", "b c"]), TokenizeOptions(Truncation("refuse", 8)))
    assert {index: error.message for index, error in found.errors.items()} == dict.fromkeys(
        (0, 2), "token id 2 is not in [0, 2)"
    )
    assert found.text_indexes.tolist() == [1]


def test_ids_by_their_spelling(minilm: TextTokenizer) -> None:
    small = TextTokenizer(minilm.backend_tokenizer, vocabulary_size=200, type_vocabulary_size=2)
    assert minilm.ids_of(["[MASK]", "fox", "no such"]) == [103, 4419, None]
    assert small.ids_of(["[MASK]", "fox"]) == [103, None]
