"""Text written token by token equals the text that the tokenizer's decoder makes of all tokens."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from bertstream.server.core.tokenization import Writer, Writing
from tests.server.core.tokenization.conftest import CORPUS, Case

TEXTS = (*CORPUS[:10], "😀👍🏽 a’b", "don't . do not ! I'm ' s n't", "\u2603 ﬁ \ufffd", "a  b", " lead and trail ", "")


def pieces(writer: Writer, ids: list[int]) -> list[str]:
    return [*(writer.push(id) for id in ids), writer.finish()]


@pytest.mark.parametrize("skip", [False, True])
def test_of_any_tokens_it_is_the_decoders_text(case: Case, skip: bool) -> None:
    tokenizer = Tokenizer.from_file(str(case.path))
    writing, size = case.ours.writing(skip_special_tokens=skip), tokenizer.get_vocab_size()

    @settings(max_examples=300, database=None)
    @given(st.lists(st.integers(0, size + 3), max_size=30))  # some ids have no name
    def check(ids: list[int]) -> None:
        assert "".join(pieces(writing.writer(), ids)) == tokenizer.decode(ids, skip_special_tokens=skip)

    check()


def test_of_real_texts_too(case: Case) -> None:
    tokenizer = Tokenizer.from_file(str(case.path))
    writing = case.ours.writing(skip_special_tokens=True)
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert "".join(pieces(writing.writer(), ids)) == tokenizer.decode(ids), text


def test_wordpieces_come_one_by_one(cases: dict[str, Case]) -> None:
    case = cases["minilm"]
    tokenizer = Tokenizer.from_file(str(case.path))
    tokenizer.no_padding()
    ids = tokenizer.encode("[CLS] unbelievably fox.", add_special_tokens=False).ids
    written = pieces(case.ours.writing(skip_special_tokens=True).writer(), ids)
    assert written == ["", "un", "bel", "ie", "va", "bly", " fox", ".", ""]
    assert pieces(case.ours.writing(skip_special_tokens=False).writer(), ids)[:2] == ["[CLS]", " un"]


def test_a_character_of_several_tokens_comes_whole(cases: dict[str, Case]) -> None:
    case = cases["byte_level_bpe"]
    tokenizer = Tokenizer.from_file(str(case.path))
    ids = tokenizer.encode("a😀é", add_special_tokens=False).ids
    written = pieces(case.ours.writing(skip_special_tokens=True).writer(), ids)
    assert [piece for piece in written if piece] == ["a", "😀", "é"]
    assert len(ids) > 4  # characters have several tokens


def test_bytes_that_are_no_character_come_as_the_decoder_writes_them(cases: dict[str, Case]) -> None:
    case = cases["byte_level_bpe"]
    tokenizer = Tokenizer.from_file(str(case.path))
    writing = case.ours.writing(skip_special_tokens=True)
    single = [id for id in range(tokenizer.get_vocab_size()) if len(writing.bytes_of(id)) == 1]
    assert len({writing.bytes_of(id) for id in single}) == 256
    draw = random.Random(3)
    for _ in range(2000):
        ids = draw.choices(single, k=draw.randint(0, 9))
        assert "".join(pieces(writing.writer(), ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        decoders.Sequence([decoders.Replace("b", "B"), decoders.Metaspace()]),
        decoders.WordPiece(prefix="@@", cleanup=False),
        decoders.BPEDecoder(suffix="▁"),  # it writes the last token differently
        decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
    ],
)
def test_other_decoders(decoder: decoders.Decoder | None) -> None:
    words = ["a", "b▁", "▁c", "@@d", "<0xE2>", "<0x98>", "<0x83>", "<0x61>", " e"]
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if decoder is not None:
        tokenizer.decoder = decoder
    writing, draw = Writing(tokenizer, skip_special_tokens=True), random.Random(5)
    for _ in range(500):
        ids = draw.choices(range(len(words) + 1), k=draw.randint(0, 7))
        assert "".join(pieces(writing.writer(), ids)) == tokenizer.decode(ids)
