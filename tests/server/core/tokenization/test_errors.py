"""One bad item has an error, and its neighbours have their rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from bertstream.server.core.tokenization import (
    Ids,
    Pairs,
    Strategy,
    Texts,
    TextTokenizer,
    TokenizationError,
    Tokenized,
    TokenizeOptions,
    Truncation,
    Words,
)
from tests.server.core.tokenization.reference import EVERYTHING

NO_ROOM = "has {} tokens with the special ones, which leaves no room for the other in {}"


def _array(*numbers: int) -> NDArray[np.int32]:
    return np.array(numbers, np.int32)


def _options(strategy: Strategy, max_length: int, special: bool = True) -> TokenizeOptions:
    return TokenizeOptions(Truncation(strategy, max_length), special)


def _windows(max_length: int, stride: int, strategy: Strategy = "longest_first") -> TokenizeOptions:
    return replace(_options(strategy, max_length), windows=True, stride=stride)


def _reasons(tokenized: Tokenized) -> dict[int, str]:
    return {index: error.reason for index, error in tokenized.errors.items()}


def test_a_text_that_is_too_long_and_may_not_be_cut(minilm: TextTokenizer) -> None:
    found = minilm.tokenize(Texts(["one", "one two three", "two"]), _options("refuse", 4))
    message = "has 5 tokens, more than 4, and truncation is off"
    assert found.errors == {1: TokenizationError("INVALID_TEXT_LENGTH", message)}
    assert found.text_indexes.tolist() == [0, 2]
    assert found.lengths.tolist() == [3, 3]
    assert found.ids.tolist() == [101, 2028, 102, 101, 2048, 102]
    assert found.truncated.tolist() == [False, False, False]


def test_cutting_one_text_of_a_pair_is_not_enough(minilm: TextTokenizer) -> None:
    pairs = Pairs(["one two three", "one", "one"], ["four", "four five six", "four"])
    first = minilm.tokenize(pairs, _options("only_first", 6))
    assert _reasons(first) == {1: "INVALID_TEXT_LENGTH"}
    assert first.errors[1] == TokenizationError("INVALID_TEXT_LENGTH", NO_ROOM.format(6, 6), sequence=1)
    assert first.truncated.tolist() == [True, False, False]
    second = minilm.tokenize(pairs, _options("only_second", 6))
    assert second.errors[0] == TokenizationError("INVALID_TEXT_LENGTH", NO_ROOM.format(6, 6), sequence=0)


def test_the_text_of_a_pair_that_is_too_long_alone_is_named(minilm: TextTokenizer) -> None:
    long, short = "one two three four", "one"
    found = minilm.tokenize(
        Pairs([long, short, long, "one two"], [short, long, long, "one two"]), _options("refuse", 6)
    )
    assert {index: error.sequence for index, error in found.errors.items()} == {0: 0, 1: 1, 2: None, 3: None}
    assert found.errors[1].message == "has 7 tokens with the special ones, more than 6, and truncation is off"
    assert found.errors[3].message == "has 7 tokens, more than 6, and truncation is off"


def test_a_second_text_that_is_not_there(minilm: TextTokenizer) -> None:
    found = minilm.tokenize(Texts(["one two", "one"]), _options("only_second", 3))
    assert found.errors[0].message == "has 4 tokens, more than 3, and there is no second text"
    assert found.text_indexes.tolist() == [1]


def test_room_for_the_special_tokens_alone(minilm: TextTokenizer) -> None:
    found = minilm.tokenize(Texts(["one", ""]), _options("longest_first", 2))
    assert found.ids.tolist() == [101, 102, 101, 102]
    assert found.truncated.tolist() == [True, False]
    less = minilm.tokenize(Texts(["one", ""]), _options("longest_first", 1))
    message = "max_length is 1, but the special tokens alone are 2"
    error = TokenizationError("INVALID_TRUNCATION", message, "truncation.max_length")
    assert less.errors == {0: error, 1: error}
    assert less.ids.size == less.lengths.size == 0


def test_no_tokens_at_all(minilm: TextTokenizer) -> None:
    options = _options("longest_first", 8, special=False)
    found = minilm.tokenize(Texts(["one", "", " "]), options)
    assert _reasons(found) == {1: "INVALID_EMPTY_TEXT", 2: "INVALID_EMPTY_TEXT"}
    allowed = minilm.tokenize(Texts(["one", "", " "]), replace(options, allow_empty=True))
    assert allowed.lengths.tolist() == [1, 0, 0]
    assert allowed.errors == {}
    ids = Ids(_array(5, 6), _array(0, 2))
    assert _reasons(minilm.tokenize(ids, options)) == {0: "INVALID_EMPTY_TEXT"}
    assert minilm.tokenize(ids, replace(options, add_special_tokens=True)).ids.tolist() == [101, 102, 101, 5, 6, 102]
    words = Words(["one"], _array(0, 1))
    assert _reasons(minilm.tokenize(words, options)) == {0: "INVALID_EMPTY_TEXT"}


def test_ids_beyond_the_vocabulary(minilm: TextTokenizer) -> None:
    ids = Ids(_array(101, 30521, 30522, 40000, -1, 7, 0), _array(2, 2, 1, 1, 1))
    found = minilm.tokenize(ids, _options("refuse", 512, special=False))
    assert _reasons(found) == {1: "INVALID_TOKEN_ID", 2: "INVALID_TOKEN_ID"}
    assert found.errors[1].message == "token id 30522 is not in [0, 30522)"
    assert found.errors[2].message == "token id -1 is not in [0, 30522)"
    assert found.ids.tolist() == [101, 30521, 7, 0]
    assert found.text_indexes.tolist() == [0, 3, 4]
    texts = minilm.detokenize(ids, skip_special_tokens=True)
    assert texts.errors.keys() == {1, 2}
    assert texts.texts[1:3] == ["", ""]


def test_type_ids_beyond_the_models(minilm: TextTokenizer) -> None:
    ids = Ids(_array(5, 6, 7), _array(1, 1, 1), _array(0, 2, 1))
    found = minilm.tokenize(ids, _options("refuse", 512))
    assert found.errors == {1: TokenizationError("INVALID_TOKEN_TYPE_ID", "token type id 2 is not in [0, 2)")}
    assert found.type_ids is not None
    assert found.type_ids.tolist() == [0, 0, 0, 0, 1, 0]


def test_a_vocabulary_larger_than_the_models(bpe: TextTokenizer) -> None:
    small = TextTokenizer(bpe.backend_tokenizer, vocabulary_size=400, type_vocabulary_size=1)
    found = small.tokenize(Pairs(["a", "a"], ["b", "unspeakably"]), _options("longest_first", 512))
    assert _reasons(found) == {1: "INVALID_TOKEN_ID"}
    assert found.text_indexes.tolist() == [0]


def test_given_ids_are_cut_and_kept_as_they_are(minilm: TextTokenizer) -> None:
    ids = Ids(_array(101, 5, 6, 7, 102, 9), _array(5, 1), _array(0, 0, 1, 1, 1, 0))
    options = replace(EVERYTHING, truncation=Truncation("longest_first", 3, "left"), add_special_tokens=False)
    found = minilm.tokenize(ids, options)
    assert found.ids.tolist() == [6, 7, 102, 9]
    assert found.type_ids is not None
    assert found.type_ids.tolist() == [1, 1, 1, 0]
    assert found.tokens == ["[unused5]", "[unused6]", "[SEP]", "[unused8]"]
    assert found.special_tokens_mask is not None
    assert found.special_tokens_mask.tolist() == [False, False, True, False]
    assert found.starts is found.ends is found.word_ids is found.sequence_ids is None
    assert found.truncated.tolist() == [True, False]


def test_windows_of_pairs_where_nobody_says_which_text(minilm: TextTokenizer) -> None:
    found = minilm.tokenize(Pairs(["one"], ["two"]), _windows(8, 0))
    message = "windows are cut from one text of a pair: say from which, by only_first or only_second"
    assert found.errors == {0: TokenizationError("INVALID_WINDOWS", message, "truncation.strategy")}


def test_windows_of_pairs_whose_other_text_leaves_no_room(minilm: TextTokenizer) -> None:
    pairs = Pairs(
        ["one two three four five"] * 3 + ["one two three", ""], ["one", "one two", ""] + ["one two three"] * 2
    )
    found = minilm.tokenize(pairs, _windows(8, 1, "only_second"))
    assert found.errors == {
        0: TokenizationError("INVALID_TEXT_LENGTH", NO_ROOM.format(8, 8), sequence=0),
        1: TokenizationError("INVALID_TEXT_LENGTH", NO_ROOM.format(8, 8), sequence=0),
    }
    assert found.text_indexes.tolist() == [2, 3, 3, 4]
    assert found.lengths.tolist() == [8, 8, 8, 6]
    wide = minilm.tokenize(pairs, _windows(8, 2, "only_second"))
    message = "stride must be less than the 2 tokens that each window has room for"
    assert wide.errors[3] == TokenizationError("INVALID_WINDOWS", message, "stride")
    assert wide.text_indexes.tolist() == [2, 4]


def test_windows_may_not_multiply_a_pair(minilm: TextTokenizer) -> None:
    pairs = Pairs(["word " * 500, "word " * 500], ["word " * 9000, "word " * 10])
    found = minilm.tokenize(pairs, _windows(512, 0, "only_second"))
    assert _reasons(found) == {0: "INVALID_WINDOWS"}
    assert found.text_indexes.tolist() == [1, 1]


def test_a_stride_as_long_as_a_window(minilm: TextTokenizer) -> None:
    found = minilm.tokenize(Texts(["one two three four", "one"]), _windows(5, 3))
    message = "stride must be less than the 3 tokens that each window has room for"
    assert found.errors == {0: TokenizationError("INVALID_WINDOWS", message, "stride")}
    assert found.text_indexes.tolist() == [1]


def test_windows_may_not_multiply_a_text(minilm: TextTokenizer) -> None:
    texts = Texts(["word " * 5000, "word " * 520])
    found = minilm.tokenize(texts, _windows(512, 509))
    assert _reasons(found) == {0: "INVALID_WINDOWS"}
    assert len(found.lengths) == 11
    assert minilm.tokenize(texts, _windows(512, 448)).errors == {}


def test_windows_of_texts_that_may_not_be_cut(minilm: TextTokenizer) -> None:
    found = minilm.tokenize(Texts(["one", "one two three four"]), _windows(5, 0, "refuse"))
    assert _reasons(found) == {1: "INVALID_TEXT_LENGTH"}
    assert found.text_indexes.tolist() == [0]


def test_a_text_that_the_tokenizer_cannot_spell() -> None:
    strict = Tokenizer(models.WordPiece({"a": 0, "b": 1}, unk_token="[UNK]"))  # has no [UNK]
    strict.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = TextTokenizer(strict, vocabulary_size=2, type_vocabulary_size=2)
    found = tokenizer.tokenize(Texts(["a b", "c", "b"]), EVERYTHING)
    assert _reasons(found) == {1: "INVALID_TEXT"}
    assert found.ids.tolist() == [0, 1, 1]
    pairs = tokenizer.tokenize(Pairs(["a", "a", "c"], ["b", "c", "b"]), _options("longest_first", 8))
    assert _reasons(pairs) == {1: "INVALID_TEXT", 2: "INVALID_TEXT"}
    assert pairs.ids.tolist() == [0, 1]


@pytest.mark.parametrize("inputs", [Words(["a"], _array(1)), Ids(_array(1), _array(1))])
def test_a_prompt_before_what_has_no_text(minilm: TextTokenizer, inputs: Words | Ids) -> None:
    with pytest.raises(ValueError, match="a prompt cannot be put before words or token ids"):
        minilm.tokenize(inputs, EVERYTHING, "query: ")


def test_columns_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="2 first texts, but 1 second texts"):
        Pairs(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="should have 3 words in all, but there are 2"):
        Words(["a", "b"], _array(1, 2))
    with pytest.raises(ValueError, match="a text cannot have -1 token ids"):
        Ids(_array(1, 2), _array(3, -1))
    with pytest.raises(ValueError, match="2 token ids, but 1 token type ids"):
        Ids(_array(1, 2), _array(2), _array(0))
    with pytest.raises(ValueError, match="max_length must be at least 1, not 0"):
        Truncation("refuse", 0)
    with pytest.raises(ValueError, match="stride must be at least 0, not -1"):
        TokenizeOptions(Truncation("refuse", 8), stride=-1)


def test_nothing_to_do(minilm: TextTokenizer) -> None:
    none = _array()
    for inputs in (Texts([]), Pairs([], []), Words([], none), Ids(none, none)):
        found = minilm.tokenize(inputs, EVERYTHING)
        assert found.ids.size == found.lengths.size == found.truncated.size == 0
        assert found.errors == {}
    assert minilm.tokenize(Texts([]), _windows(8, 2)).lengths.size == 0
    assert minilm.detokenize(Ids(none, none), skip_special_tokens=True).texts == []
