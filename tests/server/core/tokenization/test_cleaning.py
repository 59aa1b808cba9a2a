"""Texts made from ids equal those of transformers' decode, whether or not a checkpoint has spaces cleaned up."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer

from bertstream.server.core.tokenization import Ids, TextTokenizer, Writing
from bertstream.server.core.tokenization.cleaning import REPLACEMENTS, CleanUp, clean_up
from bertstream.workers.compile.checkpoints import read_tokenizer
from bertstream.workers.compile.checkpoints.families import FAMILIES
from tests.server.core.tokenization.conftest import transformers_tokenizer
from tests.support.checkpoints import edit_json, write_json

SPACES = "clean_up_tokenization_spaces"
FORCED = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
# Beginnings and ends of the texts that are cleaned up, and both in one.
ENDS = (".", "?", "!", ",", "'", "n't", "'m", "'s", "'ve", "'re", "n", "t", "s", "m", "ve", "re", "a")
# Settings, and whether they clean up: with BPE, and with other models.
SETTINGS: tuple[tuple[dict[str, Any], bool, bool], ...] = (
    ({}, False, False),
    ({SPACES: False}, False, False),
    ({SPACES: None}, False, False),
    ({SPACES: True}, False, True),
    ({FORCED: True}, False, False),
    ({SPACES: True, FORCED: True}, True, True),
)
PIECES = st.lists(st.text(" .?!,'ntsmvera", max_size=5), max_size=12)


def with_ends(vocabulary: dict[str, int] | list[list[Any]]) -> dict[str, int] | list[list[Any]]:
    """Return the vocabulary with these pieces added, as its kind of model spells them."""
    if isinstance(vocabulary, list):
        known = {piece for piece, _ in vocabulary}
        new = [mark + end for end in ENDS for mark in ("", "▁")] + ["▁", "▁▁"]
        return [*vocabulary, *([piece, -9.0] for piece in new if piece not in known)]
    marks = ("", "##") if "[CLS]" in vocabulary else ("", "Ġ")
    new = [mark + end for end in ENDS for mark in marks] + ["Ġ"]
    next_id = max(vocabulary.values()) + 1
    return vocabulary | {piece: next_id + i for i, piece in enumerate(p for p in new if p not in vocabulary)}


@pytest.fixture(scope="module")
def punctuated(
    checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, dict[str, Any]], Path]:
    """Return a function that makes a checkpoint with these pieces in its vocabulary, and given settings."""

    def make(name: str, settings: dict[str, Any]) -> Path:
        directory = tmp_path_factory.mktemp("punctuated") / name
        directory.mkdir()
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(checkpoint(name) / file, directory)
        model = json.loads((directory / "tokenizer.json").read_text("utf-8"))["model"]
        edit_json(directory / "tokenizer.json", model=model | {"vocab": with_ends(model["vocab"])})
        own = json.loads((directory / "tokenizer_config.json").read_text("utf-8"))
        kept = {key: value for key, value in own.items() if key not in (SPACES, FORCED)}
        write_json(directory / "tokenizer_config.json", kept | settings)
        return directory

    return make


def served(directory: Path, family: str, size: int) -> tuple[TextTokenizer, bool]:
    """Return the tokenizer as it is compiled and served, and whether it cleans up."""
    settings = read_tokenizer(directory, FAMILIES[family])
    settings.save(directory.parent)
    ours = TextTokenizer.load(
        directory.parent / "tokenizer.json",
        vocabulary_size=size,
        type_vocabulary_size=2,
        clean_up_spaces=settings.clean_up_spaces,
    )
    return ours, settings.clean_up_spaces


def written(writing: Writing, ids: Sequence[int]) -> str:
    writer = writing.writer()
    return "".join([*map(writer.push, ids), writer.finish()])


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: "-".join(map(str, each[0].values())) or "absent")
@pytest.mark.parametrize(
    "name", ["bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta", "camembert", "deberta-v2", "albert"]
)
def test_texts_of_ids_are_those_of_transformers(
    punctuated: Callable[[str, dict[str, Any]], Path], name: str, settings: tuple[dict[str, Any], bool, bool]
) -> None:
    directory = punctuated(name, settings[0])
    theirs = AutoTokenizer.from_pretrained(directory)
    size = len(theirs)
    ours, cleans = served(directory, name, size)
    assert cleans is settings[1 if name == "roberta" else 2]
    draw = random.Random(11)
    pieces = [id for piece, id in theirs.get_vocab().items() if piece.strip("#▁Ġ") in ("", *ENDS)]
    drawn = [draw.choices(pieces, k=draw.randint(0, 14)) for _ in range(300)]
    drawn += [[draw.choice((draw.choice(pieces), draw.randrange(size))) for _ in range(20)] for _ in range(300)]
    inputs = Ids(np.array([id for ids in drawn for id in ids], np.int32), np.array(list(map(len, drawn)), np.int32))
    for skip in (False, True):
        expected = [theirs.decode(ids, skip_special_tokens=skip) for ids in drawn]
        raw = [theirs.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False) for ids in drawn]
        assert (expected != raw) is cleans
        assert ours.detokenize(inputs, skip_special_tokens=skip).texts == expected
        assert [written(ours.writing(skip_special_tokens=skip), ids) for ids in drawn] == expected


def test_an_old_file_that_does_not_name_the_kind_of_its_model(
    punctuated: Callable[[str, dict[str, Any]], Path],
) -> None:
    directory = punctuated("roberta", {SPACES: True})
    model = json.loads((directory / "tokenizer.json").read_text("utf-8"))["model"]
    assert model.pop("type") == "BPE"
    edit_json(directory / "tokenizer.json", model=model)
    theirs = AutoTokenizer.from_pretrained(directory)
    ours, cleans = served(directory, "roberta", len(theirs))
    ids = theirs.convert_tokens_to_ids(["a", "Ġ'", "Ġs", "Ġ."])
    inputs = Ids(np.array(ids, np.int32), np.array([4], np.int32))
    assert ours.detokenize(inputs, skip_special_tokens=True).texts == [theirs.decode(ids)] == ["a ' s ."]
    assert not cleans


def test_a_decoder_that_writes_all_at_the_end() -> None:
    words = ["it", "'", "s", "fine</w>", ".", " "]
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="it"))
    tokenizer.decoder = decoders.Sequence([decoders.BPEDecoder(suffix="</w>"), decoders.Fuse()])
    reference = transformers_tokenizer(tokenizer_object=tokenizer, clean_up_tokenization_spaces=True)
    ours = TextTokenizer(tokenizer, vocabulary_size=6, type_vocabulary_size=0, clean_up_spaces=True)
    ids = [0, 5, 1, 5, 2, 5, 5, 4, 3, 4]
    assert written(ours.writing(skip_special_tokens=True), ids) == reference.decode(ids) == "it's .fine."


@given(st.text(" .?!,'ntsmvera"))
def test_whole_texts(text: str) -> None:
    assert clean_up(text) == transformers_tokenizer(tokenizer_object=PLAIN).clean_up_tokenization(text)


PLAIN = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))


@given(PIECES)
def test_pieces_add_up_to_the_whole(pieces: list[str]) -> None:
    cleaning = CleanUp()
    given = [cleaning.push(piece) for piece in pieces]
    assert "".join([*given, cleaning.finish()]) == clean_up("".join(pieces))


@given(PIECES, st.text(" .?!,'ntsmvera", max_size=8))
def test_what_was_given_is_never_taken_back(pieces: list[str], more: str) -> None:
    cleaning = CleanUp()
    given = "".join(map(cleaning.push, pieces))
    assert clean_up("".join(pieces) + more).startswith(given)


@pytest.mark.parametrize(
    ("pieces", "given"),
    [
        (["it", " '", " s", " fine", " .", " ok"], ["it", "", "'s", " fine", ".", " ok", ""]),
        (["a", " ", "b"], ["a", "", " b", ""]),
        (["a", " n", "'", "t", " n", "o"], ["a", "", "", "n't", "", " no", ""]),
        (["a '"], ["a", " '"]),  # given at the end
        (["a", "", "."], ["a", "", ".", ""]),
    ],
)
def test_no_more_is_held_back_than_may_change(pieces: list[str], given: list[str]) -> None:
    cleaning = CleanUp()
    assert [*map(cleaning.push, pieces), cleaning.finish()] == given


def test_each_replacement_begins_with_a_space() -> None:
    assert all(old.startswith(" ") and clean_up(f"a{old}b") == f"a{new}b" for old, new in REPLACEMENTS)
