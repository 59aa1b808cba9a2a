from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertstream.server.core.spans import AskedSpans, SpanUnit, token_spans
from bertstream.server.core.tokenization import (
    OffsetUnit,
    Pairs,
    Texts,
    TextTokenizer,
    Tokenized,
    TokenizeOptions,
    Truncation,
)
from bertstream.workers.compile import checkpoints

COLUMNS = TokenizeOptions(Truncation("longest_first", 12), columns=frozenset({"offsets", "word_ids"}))
TOKENIZER = TextTokenizer.load(
    Path(checkpoints.embedded()) / "tokenizer.json", vocabulary_size=30522, type_vocabulary_size=2
)


def asked(spans: list[list[tuple[int, int]]], unit: SpanUnit = "characters") -> AskedSpans:
    flat = [span for listed in spans for span in listed]
    starts, ends = np.array([s for s, _ in flat], np.int64), np.array([e for _, e in flat], np.int64)
    return AskedSpans(np.array([len(listed) for listed in spans], np.int32), starts, ends, unit)


def tokens_of(*texts: str) -> Tokenized:
    return TOKENIZER.tokenize(Texts(texts), COLUMNS)


def ranges(spans: list[list[tuple[int, int]]], tokens: Tokenized, unit: SpanUnit = "characters") -> list[list[int]]:
    found, bad = token_spans(asked(spans, unit), tokens)
    assert not bad
    return [found.starts.tolist(), found.lengths.tolist()]


def test_characters_words_and_tokens() -> None:
    tokens = tokens_of("unaffable people", "", "a b c")  # [CLS] una ##ffa ##ble people [SEP]
    assert ranges([[(0, 9), (0, 16), (2, 4)], [], [(2, 3)]], tokens) == [[1, 1, 1, 2], [3, 4, 2, 1]]
    assert ranges([[(0, 1), (1, 2)], [], [(0, 3)]], tokens, "words") == [[1, 4, 1], [3, 1, 3]]
    assert ranges([[(0, 6)], [(1, 2)], [(1, 4)]], tokens, "tokens") == [[0, 1, 1], [6, 1, 3]]


@pytest.mark.parametrize("span", [(0, 0), (5, 5), (-3, 0), (9, 10), (100, 200), (4, 2), (0, -1)])
def test_spans_that_touch_no_token_fail_their_text_alone(span: tuple[int, int]) -> None:
    tokens = tokens_of("fox", "unaffable people", "dog")
    found, bad = token_spans(asked([[(0, 3)], [(0, 9), span], [(0, 3)]]), tokens)
    assert list(bad) == [1]
    assert str(span[0]) in bad[1]
    assert found.counts.tolist() == [1, 2, 1]
    assert [found.lengths[i] for i in (0, 3)] == [1, 1]


def test_what_was_cut_off_cannot_be_pooled() -> None:
    text = "word " * 30  # 12 tokens remain: [CLS], 10 words, [SEP]
    _, bad = token_spans(asked([[(0, 4), (45, 49)], [(50, 54)]]), tokens_of(text, text))
    assert list(bad) == [1]
    assert "cut" in bad[1]


def test_texts_that_failed_already_are_left_alone() -> None:
    refuse = TokenizeOptions(Truncation("refuse", 6), columns=COLUMNS.columns)
    tokens = TOKENIZER.tokenize(Texts(["fox", "fox " * 20, "the dog"]), refuse)
    found, bad = token_spans(asked([[(0, 3)], [(0, 3)], [(4, 7)]]), tokens)
    assert bad == {}
    assert (found.starts[0], found.starts[2]) == (1, 2)


def test_tokens_of_pairs() -> None:
    tokens = TOKENIZER.tokenize(Pairs(["fox"], ["dog"]), COLUMNS)
    assert ranges([[(0, 5), (3, 4)]], tokens, "tokens") == [[0, 3], [5, 1]]
    _, bad = token_spans(asked([[(4, 6)]], "tokens"), tokens)
    assert list(bad) == [0]


@given(st.lists(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=4), min_size=1, max_size=4))
def test_every_span_takes_just_the_tokens_it_touches(spans: list[list[tuple[int, int]]]) -> None:
    texts = ["Größere Straßen führen  über 懒狗 bridges, unaffable", "x", "", "an emoji 👍🏽 here"][: len(spans)]
    tokens = tokens_of(*texts)
    wanted = [[(start, start + size) for start, size in listed] for listed in spans]
    found, bad = token_spans(asked(wanted), tokens)
    assert tokens.starts is not None
    assert tokens.ends is not None
    assert tokens.word_ids is not None
    at, first = 0, 0
    for text, listed in enumerate(wanted):
        rows = slice(first, first + int(tokens.lengths[text]))
        real = tokens.word_ids[rows] >= 0
        for start, end in listed:
            touched = np.flatnonzero(real & (tokens.ends[rows] > start) & (tokens.starts[rows] < end))
            if touched.size:
                assert (found.starts[at], found.lengths[at]) == (touched[0], touched[-1] - touched[0] + 1)
            else:
                assert text in bad
            at += 1
        first += int(tokens.lengths[text])


@pytest.mark.parametrize("unit", ["characters", "words", "tokens"])
def test_no_text_is_left(unit: SpanUnit) -> None:
    refuse = TokenizeOptions(Truncation("refuse", 6), columns=COLUMNS.columns)
    found, bad = token_spans(asked([[(0, 3)], []], unit), TOKENIZER.tokenize(Texts(["fox " * 20, "fox " * 9]), refuse))
    assert bad == {}
    assert found.lengths.tolist() == [0]


@pytest.mark.parametrize("offset_unit", ["code_points", "utf16", "utf8"])
def test_spans_count_code_points_whatever_the_unit_of_offsets(offset_unit: OffsetUnit) -> None:
    texts = ["😀é fox", "fox", "ü 😀😀 the dog", "😀"]
    options = TokenizeOptions(Truncation("longest_first", 12), columns=COLUMNS.columns, offset_unit=offset_unit)
    spans = [[(3, 6), (0, 2)], [(0, 3)], [(9, 12), (0, 1), (5, 2000)], [(1, 2), (-3, 0)]]
    found, bad = token_spans(asked(spans), TOKENIZER.tokenize(Texts(texts), options), texts, offset_unit)
    expected, worse = token_spans(asked(spans), tokens_of(*texts))
    assert found.starts.tolist() == expected.starts.tolist()
    assert found.lengths.tolist() == expected.lengths.tolist()
    assert list(bad) == [3]
    assert bad == worse
