"""Long texts are read in parts, no further than needed, and have the tokens of texts that are read whole."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Encoding, Tokenizer, models, pre_tokenizers

from bertstream.server.core.tokenization import (
    Inputs,
    Pairs,
    Side,
    Strategy,
    Texts,
    TextTokenizer,
    Tokenized,
    TokenizeOptions,
    Truncation,
    Words,
    cancelling,
    reading,
)
from bertstream.server.core.tokenization import sequences as sequences_module
from bertstream.server.core.tokenization.cuts import Cuts
from tests.server.core.tokenization.conftest import Case
from tests.server.core.tokenization.reference import ALL_COLUMNS, AWKWARD, EVERYTHING

Definition = dict[str, Any]
# Tokens that include the spaces before or behind them; one that must be a word of its own; one that is found in the
# normalized text; and one that contains a character at which texts may be cut elsewhere.
ADDED = [
    AddedToken("<left>", lstrip=True, normalized=False),
    AddedToken("<right>", rstrip=True, normalized=False),
    AddedToken("alone", single_word=True, normalized=False),
    AddedToken("Éxtra", normalized=True),
    AddedToken("<a:b>", normalized=False),
    AddedToken("北京", normalized=False),
]
FRAGMENTS = [
    *("the fox", "jumps", "over.", "dog,", "encoders:", "3.14159", "don't", "a", "A"),
    *("Über", "Straße", "naïve", "e\u0301", "\u0301", "İstanbul", "ΣΊΣΥΦΟΣ", "Съешь", "ещё", "мягких", "שלום", "الكلب"),
    *(
        "敏捷的棕色",
        "北京",
        "東京",
        "タワー",
        "한국어",
        "ﬁne",
        "①",
        "\u037a",
        "\u0d4e",
        "\ufdfa",
        "👩‍👩‍👧‍👦",
        "\u1100\u1161",
    ),
    *(" ", " ", " ", " ", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2028", "\u3000", "\u200b", "\x00", "\u2581"),
    *(",", ".", "-", "_", "'", "'s", "...", "(", ")", "#", "##", "，", "。", "×", "x" * 30),
    *("<left>", "<right>", "alone", "Éxtra", "<a:b>", "[SEP]", "[MASK]", "</s>", "<mask>"),
]
long_text = st.lists(st.sampled_from(FRAGMENTS) | st.characters(exclude_categories=["Cs"]), max_size=50).map("".join)
fuzzing = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEED, TEXTS = 20261122, 100
STRATEGIES: tuple[Strategy, ...] = ("longest_first", "only_first", "only_second")


@contextmanager
def small_parts(characters: int = 8) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PART_CHARACTERS", 2 * characters)
        patch.setattr(reading, "FIRST_CHARACTERS", characters)
        patch.setattr(reading, "TOKEN_CHARACTERS", 1)
        yield


def _load(definition: Definition, added: list[AddedToken], directory: Path) -> TextTokenizer:
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    tokenizer.add_tokens(added)
    tokenizer.save(str(directory / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    return TextTokenizer.load(directory / "tokenizer.json", vocabulary_size=size, type_vocabulary_size=2)


def _lowercase(definition: Definition) -> None:
    definition["normalizer"] |= {"lowercase": True, "strip_accents": None}


def _not_chinese(definition: Definition) -> None:
    definition["normalizer"]["handle_chinese_chars"] = False


def _prefix_space(definition: Definition) -> None:
    definition["pre_tokenizer"]["add_prefix_space"] = True
    definition["post_processor"]["add_prefix_space"] = True


def _untrimmed(definition: Definition) -> None:
    definition["post_processor"]["trim_offsets"] = False


def _xlm_roberta(definition: Definition) -> None:
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    definition["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, spaces]}
    parts = [{"type": "WhitespaceSplit"}, definition["pre_tokenizer"]]
    definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": parts}


def _first_only(definition: Definition) -> None:
    definition["pre_tokenizer"]["prepend_scheme"] = "first"


def _as_it_is(definition: Definition) -> None:
    pass


VARIANTS: dict[str, tuple[str, Callable[[Definition], None], list[AddedToken]]] = {
    "wordpiece": ("wordpiece", _as_it_is, ADDED),
    "lowercase": ("wordpiece", _lowercase, ADDED),
    "not_chinese": ("wordpiece", _not_chinese, ADDED[2:4]),
    "minilm": ("minilm", _as_it_is, []),
    "byte_level_bpe": ("byte_level_bpe", _as_it_is, ADDED),
    "prefix_space": ("byte_level_bpe", _prefix_space, ADDED[2:]),
    "untrimmed": ("byte_level_bpe", _untrimmed, []),
    "unigram": ("unigram", _as_it_is, ADDED),
    "xlm_roberta": ("unigram", _xlm_roberta, []),
    "first_only": ("unigram", _first_only, ADDED),
}


@pytest.fixture(scope="module")
def variants(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextTokenizer]:
    made = {}
    for name, (base, change, added) in VARIANTS.items():
        definition = json.loads(cases[base].path.read_text("utf-8"))
        change(definition)
        made[name] = _load(definition, added, tmp_path_factory.mktemp(name))
    return made


@pytest.fixture(params=VARIANTS)
def tokenizer(request: pytest.FixtureRequest, variants: dict[str, TextTokenizer]) -> TextTokenizer:
    return variants[request.param]


def assert_equal(tokenizer: TextTokenizer, inputs: Inputs, options: TokenizeOptions, prompt: str = "") -> None:
    """Assert that reading in parts and at once give the same, but for counts in messages about too long texts."""
    whole = tokenizer.tokenize(inputs, options, prompt)
    with small_parts():
        parts = tokenizer.tokenize(inputs, options, prompt)
    assert _columns(parts) == _columns(whole)


def _columns(tokenized: Tokenized) -> dict[str, Any]:
    found = {name: getattr(tokenized, name) for name in Tokenized.__dataclass_fields__}
    errors = {index: (error.reason, error.option) for index, error in tokenized.errors.items()}
    return {name: each.tolist() if isinstance(each, np.ndarray) else each for name, each in found.items()} | {
        "errors": errors
    }


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("side", ["right", "left"])
def test_many_texts(tokenizer: TextTokenizer, windows: bool, side: Side) -> None:
    random_ = random.Random(SEED)
    texts = ["".join(random_.choices(FRAGMENTS, k=random_.randint(5, 60))) for _ in range(TEXTS)]
    texts.append("the foxthe fox" * 5 + "Éxtra,the fox")  # the text behind an added token is taken for a start
    options = TokenizeOptions(Truncation("longest_first", 20, side), windows=windows, columns=ALL_COLUMNS)
    assert_equal(tokenizer, Texts(texts), options)
    assert_equal(tokenizer, Texts(texts), replace(options, columns=frozenset()))
    assert_equal(tokenizer, Texts(texts), replace(options, columns=frozenset({"offsets"})), "query: ")


@given(texts=st.lists(long_text, min_size=1, max_size=4), fast=st.booleans(), prompt=st.sampled_from(["", "query: "]))
@fuzzing
def test_all_of_a_text(tokenizer: TextTokenizer, texts: list[str], fast: bool, prompt: str) -> None:
    options = replace(EVERYTHING, columns=frozenset() if fast else ALL_COLUMNS, windows=True)
    assert_equal(tokenizer, Texts(texts), options, prompt)


@given(
    texts=st.lists(long_text, min_size=1, max_size=4),
    max_length=st.integers(3, 30),
    side=st.sampled_from(["right", "left"]),
    columns=st.sampled_from([frozenset(), frozenset({"offsets"}), ALL_COLUMNS]),
    prompt=st.sampled_from(["", "query: "]),
)
@fuzzing
def test_what_stays_of_a_text(
    tokenizer: TextTokenizer, texts: list[str], max_length: int, side: Side, columns: Any, prompt: str
) -> None:
    options = TokenizeOptions(Truncation("longest_first", max_length, side), columns=columns, offset_unit="utf16")
    assert_equal(tokenizer, Texts(texts), options, prompt)
    assert_equal(tokenizer, Texts(texts), replace(options, truncation=Truncation("refuse", max_length, side)), prompt)


@given(
    pairs=st.lists(st.tuples(long_text, long_text), min_size=1, max_size=3),
    max_length=st.integers(5, 30),
    side=st.sampled_from(["right", "left"]),
    strategy=st.sampled_from(STRATEGIES),
    same=st.booleans(),
)
@fuzzing
def test_what_stays_of_pairs(
    tokenizer: TextTokenizer,
    pairs: list[tuple[str, str]],
    max_length: int,
    side: Side,
    strategy: Strategy,
    same: bool,
) -> None:
    firsts = [pairs[0][0] if same else first for first, _ in pairs]
    inputs = Pairs(firsts, [second for _, second in pairs])
    for columns in (frozenset[Any](), ALL_COLUMNS):
        assert_equal(tokenizer, inputs, TokenizeOptions(Truncation(strategy, max_length, side), columns=columns))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("columns", [frozenset(), ALL_COLUMNS])
def test_the_longer_text_of_a_pair_gets_the_odd_token(minilm: TextTokenizer, side: Side, columns: Any) -> None:
    """Make the longer text one whose parts have fewer tokens, so that it must be read further than is kept."""
    one, other = "a " * 20, "encoders " * 30
    options = TokenizeOptions(Truncation("longest_first", 10, side), columns=columns)
    for pairs in (Pairs([one], [other]), Pairs([other], [one]), Pairs([one, one], [other, one])):
        assert_equal(minilm, pairs, options)
    short = "." * 16  # too short to be read in parts, but of more tokens than the others' first parts
    for pairs in (Pairs([short], [other]), Pairs([other], [short]), Pairs([other, short], [short, "!" * 12])):
        assert_equal(minilm, pairs, options)


@given(
    lists=st.lists(st.lists(long_text, max_size=8), min_size=1, max_size=3),
    max_length=st.integers(3, 30),
    side=st.sampled_from(["right", "left"]),
)
@fuzzing
def test_what_stays_of_words(tokenizer: TextTokenizer, lists: list[list[str]], max_length: int, side: Side) -> None:
    words = Words([word for words in lists for word in words], np.array(list(map(len, lists)), np.int32))
    for columns in (frozenset[Any](), frozenset[Any]({"offsets"}), ALL_COLUMNS):
        options = TokenizeOptions(Truncation("longest_first", max_length, side), columns=columns)
        assert_equal(tokenizer, words, options)
    assert_equal(tokenizer, words, replace(EVERYTHING, windows=True))


@pytest.mark.parametrize("side", ["right", "left"])
def test_no_more_is_read_than_needed(tokenizer: TextTokenizer, side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(random.Random(5).choices(["the", "quick", "fox", "jumps", "encoders"], k=4000))
    options = TokenizeOptions(Truncation("longest_first", 20, side))
    whole = tokenizer.tokenize(Texts([text[:300] if side == "right" else text[-300:]]), options)
    seen: list[int] = []
    encode = sequences_module.encode_batch

    def counted(tokenizer: Tokenizer, sequences: Sequence[str | list[str]], places: bool) -> list[Encoding]:
        seen.extend(map(len, sequences))
        return encode(tokenizer, sequences, places)

    monkeypatch.setattr(sequences_module, "encode_batch", counted)
    found = tokenizer.tokenize(Texts([text]), options)
    assert found.ids.tolist() == whole.ids.tolist()
    assert found.truncated.tolist() == [True]
    assert len(seen) == 1
    assert seen[0] < 2100


def test_a_refused_text_says_how_far_it_was_read(minilm: TextTokenizer) -> None:
    options = TokenizeOptions(Truncation("refuse", 8))
    error = minilm.tokenize(Texts(["one two " * 1000]), options).errors[0]
    assert error.reason == "INVALID_TEXT_LENGTH"
    assert error.message.startswith("has at least 5")
    assert error.message.endswith(" tokens, more than 8, and truncation is off")


def test_a_text_of_which_all_was_read_has_its_own_count(minilm: TextTokenizer) -> None:
    options = TokenizeOptions(Truncation("refuse", 8))
    with small_parts(20):
        error = minilm.tokenize(Texts(["one two three four five six seven eight nine"]), options).errors[0]
    assert error.message == "has 11 tokens, more than 8, and truncation is off"


def test_ids_beyond_the_model_are_found_in_what_is_cut_off(cases: dict[str, Case]) -> None:
    case = cases["wordpiece"]
    size = max(case.ours.ids_of(["[MASK]", "the"])[1] or 0, 5) + 1
    small = TextTokenizer.load(case.path, vocabulary_size=size, type_vocabulary_size=2)
    with small_parts():
        found = small.tokenize(Texts(["the " * 50 + "encoders"]), TokenizeOptions(Truncation("longest_first", 5)))
    assert {index: error.reason for index, error in found.errors.items()} == {0: "INVALID_TOKEN_ID"}


@pytest.mark.parametrize("text", ["the fox " * 60, "敏捷的棕色" * 60])
def test_tokenizing_stops_between_parts_when_nobody_waits(minilm: TextTokenizer, text: str) -> None:
    nobody_waits = threading.Event()
    nobody_waits.set()
    with small_parts(), pytest.raises(cancelling.Cancelled):
        cancelling.run(lambda: minilm.tokenize(Texts([text]), EVERYTHING), nobody_waits)
    assert minilm.tokenize(Texts([text]), EVERYTHING).errors == {}


class TestCuts:
    """The places where texts may be cut."""

    def test_what_is_not_known_is_not_cut(self) -> None:
        tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        assert Cuts.of(tokenizer) is None

    def test_a_tokenizer_that_cannot_spell_all_texts_gets_them_whole(self) -> None:
        tokenizer = Tokenizer(models.WordPiece({"a": 0, "b": 1}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        assert Cuts.of(tokenizer) is None

    @pytest.mark.parametrize(
        "token",
        [AddedToken("a"), AddedToken("word", rstrip=True), AddedToken("two words"), AddedToken("two\u00a0words")],
    )
    def test_added_tokens_that_reach_across_a_space(self, cases: dict[str, Case], token: AddedToken) -> None:
        tokenizer = Tokenizer.from_file(str(cases["unigram"].path))
        assert Cuts.of(tokenizer) is not None
        tokenizer.add_tokens([token])
        assert Cuts.of(tokenizer) is None

    def test_before_and_after(self, cases: dict[str, Case]) -> None:
        cuts = Cuts.of(Tokenizer.from_file(str(cases["byte_level_bpe"].path)))
        assert cuts is not None
        text = "x" * 3000 + " y" + "x" * 3000
        assert [cuts.after(text, at) for at in (0, 3000, 3001)] == [3000, 3000, 6002]
        assert [cuts.before(text, at) for at in (6002, 3000, 2999, 0)] == [3000, 3000, 0, 0]

    @pytest.mark.parametrize("text", AWKWARD)
    def test_both_directions_find_the_same(self, tokenizer: TextTokenizer, text: str) -> None:
        cuts = Cuts.of(tokenizer.backend_tokenizer)
        assert cuts is not None
        forwards = {cuts.after(text, at) for at in range(len(text))} - {len(text)}
        backwards = {cuts.before(text, at) for at in range(len(text))} - {0}
        assert forwards - {0} == backwards

    @pytest.mark.parametrize("before", [0, 1, 5, 65_533, 65_534, 65_535, 65_536, 65_537, 200_000])
    def test_a_cut_is_found_however_far_it_is(self, cases: dict[str, Case], before: int) -> None:
        cuts = Cuts.of(Tokenizer.from_file(str(cases["byte_level_bpe"].path)))
        assert cuts is not None
        text = "x" * before + "x y" + "z" * before
        assert cuts.after(text, 0) == cuts.after(text, before + 1) == before + 1
        assert cuts.after(text, before + 2) == len(text)
        assert cuts.before(text, len(text)) == cuts.before(text, before + 1) == before + 1
        assert cuts.before(text, before) == 0
