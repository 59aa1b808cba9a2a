"""Test against transformers' own processors, one sequence at a time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from bertstream.workers.contract import GenerationOptions
from bertstream.workers.generation.processors import Rules, Tokens, process, repeating

VOCABULARY = 12


@dataclass
class Past:
    tokens: Tokens
    count: int
    rules: Rules


def past(tokens: list[int], options: GenerationOptions, count: int = 2) -> Past:
    return Past(np.array(tokens, np.int32), count, Rules(options, VOCABULARY))


def banned(tokens: list[int], options: GenerationOptions, count: int = 2) -> set[int]:
    scores = process(torch.zeros(1, VOCABULARY), [past(tokens, options, count)])
    return set((scores[0] == -torch.inf).nonzero()[:, 0].tolist())


def random_options(dice: random.Random) -> GenerationOptions:
    words = [tuple(dice.choices(range(VOCABULARY), k=dice.choice((1, 2, 3)))) for _ in range(dice.choice((0, 12)))]
    return GenerationOptions(
        max_new_tokens=20,
        min_new_tokens=dice.choice((0, 3)),
        repetition_penalty=dice.choice((1.0, 1.5, 0.7)),
        no_repeat_ngram_size=dice.choice((0, 1, 2, 3)),
        bad_words=tuple(words),
        eos_token_ids=tuple(dice.sample(range(VOCABULARY), 2)),
    )


def theirs(options: GenerationOptions, start: int) -> Any:
    made = LogitsProcessorList()
    if options.repetition_penalty != 1:
        made.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
    if options.no_repeat_ngram_size:
        made.append(NoRepeatNGramLogitsProcessor(options.no_repeat_ngram_size))
    if options.bad_words:
        words = [list(word) for word in options.bad_words]
        made.append(NoBadWordsLogitsProcessor(words, list(options.eos_token_ids)))
    if options.min_new_tokens:
        made.append(MinNewTokensLengthLogitsProcessor(start, options.min_new_tokens, list(options.eos_token_ids)))
    return made


@pytest.mark.parametrize("seed", range(10))
def test_a_batch_of_different_options_is_as_each_alone_in_transformers(seed: int) -> None:
    dice = random.Random(seed)
    logits = torch.randn(30, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3
    before, pasts, expected = logits.clone(), [], []
    for row in logits:
        options, tokens = random_options(dice), dice.choices(range(VOCABULARY), k=dice.randrange(1, 12))
        count = dice.randrange(len(tokens) + 1)
        pasts.append(past(tokens, options, count))
        expected.append(theirs(options, len(tokens) - count)(torch.tensor([tokens]), row[None].clone())[0])
    torch.testing.assert_close(process(logits, pasts), torch.stack(expected), rtol=1e-6, atol=0)
    assert torch.equal(logits, before)


def test_where_no_rule_applies_nothing_is_copied() -> None:
    logits = torch.zeros(2, VOCABULARY)
    options = GenerationOptions(5, no_repeat_ngram_size=3, bad_words=((4, 5),))
    assert process(logits, [past([1, 2], GenerationOptions(5)), past([1, 2], options)]) is logits


def test_a_word_is_banned_once_all_but_its_last_token_is_there() -> None:
    options = GenerationOptions(5, bad_words=((3,), (4, 5), (1, 2, 6), (9, 1, 2, 7)), eos_token_ids=(8,))
    assert banned([1, 2], options) == {3, 6}
    assert banned([2, 4], options) == {3, 5}
    assert banned([1], options) == {3}


def test_an_end_is_no_bad_word_but_may_be_the_end_of_one() -> None:
    options = GenerationOptions(5, bad_words=((8,), (4, 8)), eos_token_ids=(8,))
    assert banned([1], options) == set()
    assert banned([4], options) == {8}


def test_no_end_before_there_are_enough_tokens() -> None:
    options = GenerationOptions(5, min_new_tokens=2, eos_token_ids=(8, 9))
    assert [banned([1] * 4, options, count) for count in range(4)] == [{8, 9}, {8, 9}, set(), set()]


def test_ids_outside_the_vocabulary_are_nobodys() -> None:
    options = GenerationOptions(5, min_new_tokens=3, bad_words=((99,), (1, 99), (3,)), eos_token_ids=(40,))
    assert banned([1], options) == {3}


@pytest.mark.parametrize(
    ("tokens", "size", "expected"),
    [
        ([1, 2, 1, 3, 1], 2, [2, 3]),
        ([1, 2, 3], 1, [1, 2, 3]),
        ([1, 2, 1, 2], 3, [1]),
        ([1, 2], 3, []),
        ([1, 1, 1], 2, [1, 1]),
        ([4, 5], 2, []),
    ],
)
def test_what_would_repeat_a_run(tokens: list[int], size: int, expected: list[int]) -> None:
    assert repeating(np.array(tokens, np.int32), size).tolist() == expected


def test_a_penalty_next_to_zero_leaves_finite_numbers() -> None:
    logits = torch.tensor([[3.0, -3.0, 2.0, *[1.0] * 9]])
    scores = process(logits, [past([0, 1], GenerationOptions(9, repetition_penalty=1e-45))])
    assert scores[0].tolist() == [torch.finfo().max, pytest.approx(0.0), 2.0, *[1.0] * 9]
