"""Entities of texts read in windows are those of the whole text, where a token means the same in every place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from bertstream.server.core.tasks.entities import ClassifyTokens
from bertstream.server.core.tokenization import Side, Texts, TokenizeOptions, Truncation
from bertstream.server.protocols.bertstream_v1.tasks.writing import write
from bertstream.v1 import types_pb2
from tests.server.core.tasks.recogniser import (
    AWKWARD,
    STRATEGIES,
    Entity,
    Setting,
    answers_of,
    as_texts,
    as_words,
    assert_same,
    by_item,
    entities_of,
    options_of,
    task_of,
)
from tests.server.core.tasks.stubs import prepare, share_of

pytestmark = pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
BY_WORDS = ("first", "average", "max")
PLAIN = ["the", "quick", "brown", "fox", "jumps", "over", "the", "dog"]
LONG = ["unbelievable", "encyclopaedia", "antidisestablishmentarianism"]
AWKWARD_WORDS = ["New-York,", "don't", "ᚠᛇᚻ", "é", "👍🏽x", "狐狸", "\n", "[SEP]"]
SHORT = [text for text in AWKWARD if len(text) < 400]
some_word = st.sampled_from([*PLAIN, *LONG, *AWKWARD_WORDS]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=9
)
some_words = st.lists(some_word, min_size=1, max_size=12)
fuzzing = with_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def placeless(setting: Setting) -> Iterator[Setting]:
    """Yield a model to which a token means the same in every place."""
    setting.place_weight = 0.0
    yield setting
    setting.place_weight = 1.0


def _windowed(
    setting: Setting, aggregation: str, room: int, stride: int, side: Side = "right", keep_all: bool = True
) -> ClassifyTokens:
    """Return a task with windows of `room` tokens, special ones not counted, and any stride."""
    task = task_of(setting, options_of(aggregation, windows=True, keep_all_labels=keep_all))
    truncation = Truncation("longest_first", room + _special_tokens(setting), side)
    return replace(task, tokenize=replace(task.tokenize, truncation=truncation, stride=stride))


def _special_tokens(setting: Setting) -> int:
    return _tokens(setting, "")


def _tokens(setting: Setting, text: str) -> int:
    return len(setting.model.tokenizer.tokenize(Texts([text]), TokenizeOptions(Truncation("longest_first", 512))).ids)


def _whole(setting: Setting, aggregation: str, batch: types_pb2.TextBatch, keep_all: bool = True) -> list[list[Entity]]:
    return entities_of(setting, options_of(aggregation, keep_all_labels=keep_all), batch)


@pytest.mark.parametrize("aggregation", STRATEGIES)
@given(
    lists=st.lists(some_words, min_size=1, max_size=3),
    room=st.integers(1, 24),
    overlap=st.floats(0, 0.99),
    side=st.sampled_from(["right", "left"]),
    keep_all=st.booleans(),
)
@fuzzing
def test_windows_find_what_is_in_the_whole_text(
    placeless: Setting, aggregation: str, lists: list[list[str]], room: int, overlap: float, side: Side, keep_all: bool
) -> None:
    task = _windowed(placeless, aggregation, room, int(room * overlap), side, keep_all)
    for batch in (as_texts([" ".join(words) for words in lists]), as_words(lists)):
        assert_same(answers_of(placeless, task, batch), _whole(placeless, aggregation, batch, keep_all))


@pytest.mark.parametrize("aggregation", BY_WORDS)
@given(words=some_words, room=st.integers(1, 24), overlap=st.floats(0, 0.99))
@fuzzing
def test_words_are_never_cut(setting: Setting, aggregation: str, words: list[str], room: int, overlap: float) -> None:
    """Read windows of any model, which may find anything."""
    found = answers_of(setting, _windowed(setting, aggregation, room, int(room * overlap)), as_texts([" ".join(words)]))
    tokens = _whole(setting, "none", as_texts([" ".join(words)]))[0]
    task = task_of(setting, options_of(aggregation))
    real = prepare(task, as_texts([" ".join(words)])).context.real
    firsts = np.flatnonzero(real.begins | (real.indexes == 0))
    starts = {tokens[first]["start"] for first in firsts.tolist()}
    ends = {tokens[last - 1]["end"] for last in [*firsts[1:].tolist(), len(tokens)] if tokens}
    assert {entity["start"] for entity in found[0]} <= starts
    assert {entity["end"] for entity in found[0]} <= ends
    _assert_in_order(found[0])


def _assert_in_order(entities: Sequence[Entity]) -> None:
    for one, other in pairwise(entities):
        assert one["start"] <= other["start"]
        assert one["end"] <= other["end"]


@pytest.mark.parametrize("stride", [0, 1, 2])
@pytest.mark.parametrize("aggregation", BY_WORDS)
def test_a_word_longer_than_a_window(setting: Setting, aggregation: str, stride: int) -> None:
    text = f"fox {LONG[2]} fox"
    found = answers_of(setting, _windowed(setting, aggregation, 3, stride), as_texts([text]))[0]
    starts = {0, 4, len(text) - 3}
    assert {entity["start"] for entity in found} <= starts | {start - 1 for start in starts}  # or the space before
    assert {entity["end"] for entity in found} <= {3, len(text) - 4, len(text)}
    assert sum(entity["end"] - entity["start"] for entity in found) >= len(text) - 2


@pytest.mark.parametrize("stride", [0, 2])
def test_an_entity_over_several_windows(placeless: Setting, stride: int) -> None:
    """Label all tokens as one entity."""
    text = " ".join(["fox"] * 50)
    for aggregation in STRATEGIES[1:]:
        found = answers_of(placeless, _windowed(placeless, aggregation, 8, stride), as_texts([text]))[0]
        assert_same([found], _whole(placeless, aggregation, as_texts([text])))


@pytest.mark.parametrize("stride", [0, 1, 5])
def test_every_token_once(setting: Setting, stride: int) -> None:
    whole = _whole(setting, "none", as_texts(SHORT))
    found = answers_of(setting, _windowed(setting, "none", 10, stride), as_texts(SHORT))
    for ours, tokens in zip(found, whole, strict=True):
        for column in ("index", "word", "start", "end"):
            assert [each[column] for each in ours] == [each[column] for each in tokens]
    alone = answers_of(setting, _windowed(setting, "none", 10, stride, keep_all=False), as_texts(SHORT))
    assert alone == [[each for each in tokens if each["entity"] != "O"] for tokens in found]


def test_a_token_counts_where_it_has_the_most_context(bert: Setting) -> None:
    """Share 4 tokens between two windows of 6; the first two of these are further from the first window's edge."""
    text = " ".join(PLAIN)
    found = answers_of(bert, _windowed(bert, "none", 6, 4), as_texts([text]))[0]
    ids = bert.model.tokenizer.tokenize(Texts([text]), TokenizeOptions(Truncation("longest_first", 512))).ids.tolist()
    windows = [bert.scores([*ids[:7], ids[-1]])[1:-1], bert.scores([ids[0], *ids[3:]])[1:-1]]
    expected = [*windows[0][:4], *windows[1][2:]]
    assert [each["score"] for each in found] == pytest.approx([scores.max() for scores in expected])


@pytest.mark.parametrize("aggregation", STRATEGIES[1:])
@pytest.mark.parametrize(("max_length", "stride"), [(12, 5), (33, 9)])
def test_what_windows_have_whole_is_as_in_transformers(
    setting: Setting, aggregation: str, max_length: int, stride: int
) -> None:
    """Compare with transformers' pipeline, which merges windows correctly where none cuts a word or an entity."""
    random = np.random.default_rng(4)  # by 3, a window cuts an entity, of which the pipeline keeps the longest part
    known = [word for word in _words_of(setting) if _tokens(setting, f"{word} {word}") - _tokens(setting, word) == 1]
    texts = [" ".join(random.choice(known, size).tolist()) for size in (5, 40, 90)]
    asked: dict[str, Any] = {"aggregation_strategy": aggregation, "stride": stride, "max_length": max_length}
    cut = types_pb2.TruncationOptions(max_length=max_length)
    options = options_of(aggregation, windows=True, stride=stride, truncation=cut)
    found = entities_of(setting, options, as_texts(texts))
    assert_same(found, [setting.expected(text, **asked) for text in texts])
    assert len(found[2]) > 20


def _words_of(setting: Setting) -> list[str]:
    """Return words of the vocabulary."""
    names = {name.lstrip("Ġ▁") for name in setting.model.tokenizer.spelling.names}
    return sorted(name for name in names if name.isascii() and name.isalpha())


def test_the_least_size_of_an_answer_counts_each_token_once(setting: Setting) -> None:
    task = _windowed(setting, "none", 6, 4)
    rows = prepare(task, as_texts(SHORT))
    whole = prepare(task_of(setting, options_of("none", keep_all_labels=True)), as_texts(SHORT))
    assert rows.least_bytes is not None
    assert whole.least_bytes is not None
    assert rows.least_bytes.tolist() == whole.least_bytes.tolist()


@pytest.mark.parametrize("aggregation", STRATEGIES)
def test_some_items_of_a_message(setting: Setting, aggregation: str) -> None:
    task = _windowed(setting, aggregation, 14, 3)
    whole = answers_of(setting, task, as_texts(SHORT))
    rows = prepare(task, as_texts(SHORT))
    tensors = setting.tensors(rows)
    for items in ([0], [3, 7], [len(SHORT) - 1], [5, 6, 7, 8]):
        part = by_item(write(task.answer(rows, share_of(rows, items, tensors))), task.aggregation)
        assert part == [whole[item] for item in items]
