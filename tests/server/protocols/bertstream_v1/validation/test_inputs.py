from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.tokenization import Ids, Pairs, Texts, Words
from bertstream.server.protocols.bertstream_v1.validation.inputs import (
    bad_texts,
    count_texts,
    parse_inputs,
    refuse_bad_strings,
    text_path,
)
from bertstream.server.protocols.utf8 import BadString
from bertstream.v1.tasks_pb2 import ChoiceLists
from bertstream.v1.types_pb2 import TextBatch, TextPairs, TokenIdLists, WordLists
from bertstream.v1.types_pb2 import Texts as TextsMessage
from tests.server.protocols.bertstream_v1.validation.support import refused

TEXTS = TextBatch(texts=TextsMessage(texts=["a", "", "c"]))
PAIRS = TextBatch(pairs=TextPairs(first_texts=["a", "b"], second_texts=["c", "d"]))
WORDS = TextBatch(word_lists=WordLists(words=["a", "b", "c"], word_counts=[2, 0, 1]))
IDS = TextBatch(token_ids=TokenIdLists(token_ids=[1, 2, 3], lengths=[1, 2], token_type_ids=[0, 0, 1]))


def test_every_kind() -> None:
    texts, pairs = parse_inputs(TEXTS, "inputs", 9), parse_inputs(PAIRS, "inputs", 9)
    words, ids = parse_inputs(WORDS, "inputs", 9), parse_inputs(IDS, "inputs", 9)
    assert isinstance(texts, Texts)
    assert list(texts.texts) == ["a", "", "c"]
    assert isinstance(pairs, Pairs)
    assert (list(pairs.firsts), list(pairs.seconds)) == (["a", "b"], ["c", "d"])
    assert isinstance(words, Words)
    assert words.counts.tolist() == [2, 0, 1]
    assert isinstance(ids, Ids)
    assert ids.type_ids is not None
    assert ids.ids.dtype == np.int32
    assert (ids.ids.tolist(), ids.type_ids.tolist()) == ([1, 2, 3], [0, 0, 1])


def test_type_ids_left_empty_are_none() -> None:
    ids = parse_inputs(TextBatch(token_ids=TokenIdLists(token_ids=[1], lengths=[1])), "inputs", 9)
    assert isinstance(ids, Ids)
    assert ids.type_ids is None


@pytest.mark.parametrize(
    ("batch", "reason", "field"),
    [
        (TextBatch(), "INVALID_EMPTY_LIST", "inputs"),
        (TextBatch(texts=TextsMessage()), "INVALID_EMPTY_LIST", "inputs.texts"),
        (TextBatch(pairs=TextPairs()), "INVALID_EMPTY_LIST", "inputs.pairs"),
        (TextBatch(word_lists=WordLists()), "INVALID_EMPTY_LIST", "inputs.word_lists"),
        (TextBatch(token_ids=TokenIdLists()), "INVALID_EMPTY_LIST", "inputs.token_ids"),
        (TextBatch(texts=TextsMessage(texts=["a"] * 5)), "REQUEST_TOO_LARGE", "inputs.texts"),
        (TextBatch(pairs=TextPairs(first_texts=["a"])), "INVALID_LENGTHS", "inputs.pairs"),
        (TextBatch(word_lists=WordLists(words=["a"], word_counts=[2])), "INVALID_LENGTHS", "inputs.word_lists"),
        (TextBatch(word_lists=WordLists(words=["a"], word_counts=[2, -1])), "INVALID_LENGTHS", "inputs.word_lists"),
        (TextBatch(token_ids=TokenIdLists(token_ids=[1], lengths=[-1, 2])), "INVALID_LENGTHS", "inputs.token_ids"),
        (
            TextBatch(token_ids=TokenIdLists(token_ids=[1], lengths=[2**31 - 1, 2**31 - 1])),
            "INVALID_LENGTHS",
            "inputs.token_ids",
        ),
        (
            TextBatch(token_ids=TokenIdLists(token_ids=[1, 2], lengths=[2], token_type_ids=[0])),
            "INVALID_LENGTHS",
            "inputs.token_ids",
        ),
    ],
)
def test_batches_that_make_no_sense(batch: TextBatch, reason: str, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse_inputs(batch, "inputs", 4)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, field)


def test_paths() -> None:
    assert text_path(TEXTS, "inputs", 3) == "inputs.texts[3]"
    assert text_path(WORDS, "items.inputs", 0) == "items.inputs.word_lists[0]"


@pytest.mark.parametrize(
    ("batch", "bad", "texts"),
    [
        (TEXTS, [("inputs.texts.texts", 2), ("inputs.texts.texts", 0)], [0, 2]),
        (PAIRS, [("items.inputs.pairs.first_texts", 1), ("items.inputs.pairs.second_texts", 1)], [1]),
        (WORDS, [("inputs.word_lists.words", 1), ("inputs.word_lists.words", 2)], [0, 2]),
        (TEXTS, [("options.prompt", 0)], [-1]),
        (IDS, [("inputs.texts.texts", 7)], [-1]),  # of a member of the oneof that a later one has replaced
    ],
)
def test_which_texts_are_not_utf8(batch: TextBatch, bad: Sequence[tuple[str, int]], texts: list[int]) -> None:
    assert bad_texts(batch, [BadString(*each) for each in bad]) == texts


def test_bad_strings_are_all_named() -> None:
    refuse_bad_strings(TEXTS, [])
    bad = [BadString("options.prompt", 0), BadString("inputs.texts.texts", 1), BadString("inputs.texts.texts", 2)]
    with pytest.raises(RequestError) as raised:
        refuse_bad_strings(TEXTS, bad)
    assert raised.value.reason == "INVALID_UTF8"
    assert [each.field for each in raised.value.violations] == ["options.prompt", "inputs.texts[1]", "inputs.texts[2]"]


def test_bad_strings_may_be_told_by_another_path() -> None:
    with pytest.raises(RequestError) as raised:
        refuse_bad_strings(PAIRS, [BadString("inputs.second_texts", 1)], at=lambda index: f"inputs[{index}]")
    assert [each.field for each in raised.value.violations] == ["inputs[1]"]


CHOICES = ChoiceLists(prompts=["p", "q"], choices=["a", "b", "c"], choice_counts=[2, 1])


def test_choices_are_counted_and_named_by_their_questions() -> None:
    assert count_texts(CHOICES) == 2
    assert text_path(CHOICES, "items.choices", 1) == "items.choices.prompts[1]"
    assert bad_texts(CHOICES, [BadString("inputs.choices", 1), BadString("inputs.choices", 2)]) == [0, 1]
    assert bad_texts(CHOICES, [BadString("inputs.prompts", 1), BadString("options.model", 0)]) == [-1, 1]


def test_counting() -> None:
    assert count_texts(TextBatch()) == 0
    assert count_texts(TextBatch(pairs=TextPairs(first_texts=["a"], second_texts=["b", "c"]))) == 1
    assert count_texts(TextBatch(word_lists=WordLists(words=["a", "b"], word_counts=[2]))) == 1
    assert count_texts(TextBatch(token_ids=TokenIdLists(token_ids=[1, 2], lengths=[1, 1]))) == 2
    assert count_texts(TEXTS) == 3
