"""Test tokenizers whose files differ: what transformers 4 and 5 agree on, else tokenizer.json, and a warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from bertstream.workers.compile.checkpoints import CheckpointError, read_tokenizer
from bertstream.workers.compile.checkpoints.families import FAMILIES
from tests.support import tokenizer_goldens
from tests.support.checkpoints import edit_json, write_json
from tests.support.tokenizer_cases import CASES, PAIRS, WORLD, Case, token
from tests.support.tokenizer_goldens import of_file, of_transformers

GOLDENS: dict[str, dict[str, Any]] = json.loads(tokenizer_goldens.PATH.read_text("utf-8"))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return the folder in which our tokenizer is saved."""
    folder = tmp_path / "compiled"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", CASES)
def test_what_both_versions_agree_on_else_the_file(name: str, tmp_path: Path, made: Path) -> None:
    case = CASES[name]
    directory = case.write(tmp_path / "checkpoint")
    found = read_tokenizer(directory, FAMILIES[case.family])
    found.save(made)
    ours, five = of_file(made), of_transformers(directory)
    four = of_file(directory) | GOLDENS.get(name, {})
    assert {"both": four == five, "4": four != five, "5": four != five}[case.follows], "the case is not what it says"
    assert ours == (five if case.follows == "5" else four)
    if case.follows == "4":
        (warning,) = found.warnings
        assert warning.startswith("transformers 5 replaces tokenizer.json's ")
        assert case.says in warning
        assert warning.endswith("; here they are as in transformers 4.")
    else:
        assert found.warnings == ()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.follows != "4"])
def test_special_tokens_by_role(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    directory = case.write(tmp_path / "checkpoint")
    theirs = AutoTokenizer.from_pretrained(directory)
    found = read_tokenizer(directory, FAMILIES[case.family]).special_tokens
    for role in ("cls", "sep", "pad", "mask", "unk", "bos", "eos"):
        if (content := getattr(theirs, f"{role}_token")) is not None:
            assert found[role] == (content, getattr(theirs, f"{role}_token_id"))


def test_goldens_are_of_these_cases() -> None:
    assert GOLDENS.keys() <= CASES.keys()
    assert len(PAIRS) > 1


@pytest.mark.parametrize("tokenizer_class", ["XLMRobertaTokenizer", "XLMRobertaTokenizerFast"])
def test_the_class_goes_before_the_family(tmp_path: Path, made: Path, tokenizer_class: str) -> None:
    """Multilingual models are BERTs with the vocabulary of XLM-R."""
    directory = Case("xlm-roberta", files={"config": {"model_type": "bert"}}).write(tmp_path / "checkpoint")
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": tokenizer_class})
    found = read_tokenizer(directory, FAMILIES["bert"])
    found.save(made)
    assert of_file(made) == of_transformers(directory)
    assert (found.special_tokens["mask"][0], found.warnings) == ("<mask>", ())


def test_a_class_that_config_json_names(tmp_path: Path, made: Path) -> None:
    config = {"model_type": "bert", "tokenizer_class": "PreTrainedTokenizerFast"}
    case = CASES["bert-lowercase"]
    directory = Case("bert", edit=case.edit, files={"config": config}).write(tmp_path / "checkpoint")
    found = read_tokenizer(directory, FAMILIES["bert"])
    found.save(made)
    assert of_file(made) == of_file(directory) == of_transformers(directory)
    assert found.warnings == ()


def test_a_class_that_is_not_known(tmp_path: Path, made: Path) -> None:
    directory = Case("bert", files={"tokenizer_config": {"tokenizer_class": "WonderTokenizer"}}).write(tmp_path / "a")
    found = read_tokenizer(directory, FAMILIES["bert"])
    found.save(made)
    assert of_file(made) == of_file(directory)
    (warning,) = found.warnings
    assert "tokenizer class is WonderTokenizer, whose own settings are not known here" in warning


def test_a_class_for_another_kind_of_file(tmp_path: Path, made: Path) -> None:
    directory = Case("xlm-roberta", files={"config": {"model_type": "bert"}}).write(tmp_path / "checkpoint")
    found = read_tokenizer(directory, FAMILIES["bert"])
    found.save(made)
    assert of_file(made) == of_file(directory)
    (warning,) = found.warnings
    assert (
        "tokenizer.json is a Unigram, and the checkpoint's tokenizer class BertTokenizer is for a WordPiece" in warning
    )


def test_flags_beside_a_content_of_additional_tokens(tmp_path: Path) -> None:
    """Version 4 of transformers has written them, and version 5 fails to read them."""
    more = {"additional_special_tokens": [{"content": WORLD, "lstrip": True, "rstrip": False, "normalized": False}]}
    directory = Case("bert", files={"special_tokens_map": more}).write(tmp_path / "checkpoint")
    added = {each["content"]: each for each in read_tokenizer(directory, FAMILIES["bert"]).definition["added_tokens"]}
    assert (added[WORLD]["lstrip"], added[WORLD]["special"]) == (True, True)


def test_special_tokens_that_are_to_be_split(tmp_path: Path) -> None:
    directory = Case("bert", files={"tokenizer_config": {"split_special_tokens": True}}).write(tmp_path / "checkpoint")
    (warning,) = read_tokenizer(directory, FAMILIES["bert"]).warnings
    assert "split_special_tokens" in warning


@pytest.mark.parametrize("setting", ["right", None])
def test_the_side_that_is_cut_may_be_tokenizer_json_s(tmp_path: Path, setting: str | None) -> None:
    directory = Case("bert").write(tmp_path / "checkpoint")
    cut = {"max_length": 9, "stride": 0, "strategy": "LongestFirst", "direction": "Left"}
    edit_json(directory / "tokenizer.json", truncation=cut)
    write_json(directory / "tokenizer_config.json", {"truncation_side": setting} if setting else {})
    side = read_tokenizer(directory, FAMILIES["bert"]).truncation_side
    assert side == AutoTokenizer.from_pretrained(directory).truncation_side == (setting or "left")


def test_the_old_name_of_the_longest_length(tmp_path: Path) -> None:
    directory = Case("bert", files={"tokenizer_config": {"max_len": 77}}).write(tmp_path / "checkpoint")
    longest = read_tokenizer(directory, FAMILIES["bert"]).model_max_length
    assert longest == AutoTokenizer.from_pretrained(directory).model_max_length == 77


def test_ids_are_those_that_the_library_gives(tmp_path: Path) -> None:
    """The library numbers added tokens itself, whatever the file says."""
    directory = Case("bert", files={"tokenizer_config": {"mask_token": WORLD}}).write(tmp_path / "checkpoint")
    definition = json.loads((directory / "tokenizer.json").read_text())
    definition["added_tokens"].append({**token(WORLD), "id": 900})
    write_json(directory / "tokenizer.json", definition)
    found = read_tokenizer(directory, FAMILIES["bert"])
    theirs = AutoTokenizer.from_pretrained(directory).mask_token_id
    assert found.special_tokens["mask"] == (WORLD, theirs) == (WORLD, len(definition["model"]["vocab"]))
    assert found.highest_id == theirs


@pytest.mark.parametrize("decoder", [["a"], {"x": {"content": "a"}}, {"600": "a"}, {"600": {"content": 1}}])
def test_a_damaged_added_tokens_decoder(tmp_path: Path, decoder: Any) -> None:
    directory = Case("bert", files={"tokenizer_config": {"added_tokens_decoder": decoder}}).write(tmp_path / "a")
    with pytest.raises(
        CheckpointError, match=r"tokenizer_config\.json: added_tokens_decoder must be tokens by their ids"
    ):
        read_tokenizer(directory, FAMILIES["bert"])


@pytest.mark.parametrize("old", [["a"], {"a": "b"}])
def test_damaged_added_tokens(tmp_path: Path, old: Any) -> None:
    directory = Case("bert", files={"added_tokens": old}).write(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"added_tokens\.json must hold"):
        read_tokenizer(directory, FAMILIES["bert"])


def test_lists_of_tokens_that_are_none(tmp_path: Path) -> None:
    settings = {"additional_special_tokens": 5, "extra_special_tokens": [7, None], "mask_token": {"content": 3}}
    directory = Case("bert", files={"tokenizer_config": settings}).write(tmp_path / "a")
    found = read_tokenizer(directory, FAMILIES["bert"])
    assert len(found.definition["added_tokens"]) == 5
    assert "mask" not in found.special_tokens


def test_what_version_5_cannot_read_is_as_in_version_4(tmp_path: Path) -> None:
    """Version 5 takes the fourth piece for the unknown token, and there are three."""
    directory = Case("xlm-roberta").write(tmp_path / "a")
    pieces = [["<unk>", 0.0], ["\u2581", -1.0], ["a", -2.0]]
    model = {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False}
    edit_json(directory / "tokenizer.json", model=model, added_tokens=[], post_processor=None)
    with pytest.raises(Exception, match="unk_id"):
        AutoTokenizer.from_pretrained(directory)
    found = read_tokenizer(directory, FAMILIES["xlm-roberta"])
    assert ([each["content"] for each in found.definition["added_tokens"]][-1], found.warnings) == ("<mask>", ())
