"""Test that every kind of tokenizer file gives the ids of transformers' AutoTokenizer."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from bertstream.workers.compile.checkpoints import CheckpointError, read_tokenizer
from bertstream.workers.compile.checkpoints.families import FAMILIES
from bertstream.workers.compile.checkpoints.tokenizer import TokenizerSettings
from tests.support.checkpoints import BERT_SPECIAL, CORPUS, TEXTS, edit_json, write_json

Checkpoint = Callable[[str], Path]

INPUTS = (
    *(text for text in TEXTS if len(text) < 400),
    "[MASK] and <mask> and [SEP] </s>",
    "  two  spaces\tand\na line ",
    "ﬁne ＡＢＣ ½ ™ e\u0301",
    "今天 weather 很好 ok",
)
PAIRS = (("a fox", "the dog"), ("", "敏捷"), ("Größe", ""))


@pytest.fixture
def bare(checkpoint: Checkpoint, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a checkpoint's folder with config.json alone, to which tokenizer files are added."""

    def make(name: str) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        shutil.copy(checkpoint(name) / "config.json", directory)
        return directory

    return make


@pytest.fixture(scope="session")
def sentencepiece_model() -> bytes:
    """Return a Unigram model trained with the sentencepiece library itself, its NFKC normaliser included."""
    return trained()


def trained(**special: Any) -> bytes:
    """Train a Unigram model with these special tokens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its generated bindings
        import sentencepiece
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4),
        model_writer=written,
        vocab_size=180,
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
        **special,
    )
    return written.getvalue()


def check(directory: Path, family: str, **options: Any) -> TokenizerSettings:
    """Compare ours with AutoTokenizer of the same folder: ids and type ids of texts and pairs."""
    found = read_tokenizer(directory, FAMILIES[family])
    found.save(directory.parent)
    ours = Tokenizer.from_file(str(directory.parent / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(directory, **options)
    for inputs in (*((text, None) for text in INPUTS), *PAIRS):
        got, want = ours.encode(*inputs), theirs([inputs[0]], None if inputs[1] is None else [inputs[1]])
        assert got.ids == want["input_ids"][0], inputs
        if "token_type_ids" in want:
            assert got.type_ids == want["token_type_ids"][0]
    special = {role: getattr(theirs, f"{role}_token_id") for role in found.special_tokens}
    assert {role: id for role, (_, id) in found.special_tokens.items()} == special
    assert found.highest_id == max(theirs.get_vocab().values())
    return found


@pytest.mark.parametrize(
    "name",
    [
        *("bert", "bert-cased", "roberta-pad", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet"),
        *("modernbert", "deberta-v2", "albert"),
    ],
)
def test_tokenizer_json(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    directory = Path(shutil.copytree(checkpoint(name), tmp_path / name))
    check(directory, name.split("-cased")[0].split("-pad")[0])


def wordpieces(checkpoint: Path) -> list[str]:
    vocabulary: dict[str, int] = json.loads((checkpoint / "tokenizer.json").read_text())["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bert", None),
        ("bert-cased", {"do_lower_case": False}),
        ("bert", {"do_lower_case": True, "strip_accents": False}),
        ("bert-cased", {"do_lower_case": False, "tokenize_chinese_chars": False}),
        ("distilbert", {"do_lower_case": True}),
        ("electra", None),
    ],
)
def test_vocab_txt(checkpoint: Checkpoint, bare: Callable[[str], Path], name: str, settings: dict[str, Any]) -> None:
    directory = bare(name)
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in wordpieces(checkpoint(name))))
    if settings is not None:
        write_json(directory / "tokenizer_config.json", settings)
    found = check(directory, name.split("-")[0])
    assert found.definition["model"]["type"] == "WordPiece"
    assert found.definition["normalizer"]["lowercase"] is (settings or {}).get("do_lower_case", True)


def test_a_chinese_vocab_txt_splits_characters(bare: Callable[[str], Path]) -> None:
    directory = bare("bert-cased")
    characters = sorted({character for text in CORPUS for character in text if "\u4e00" <= character <= "\u9fff"})
    vocabulary = [
        *BERT_SPECIAL,
        *characters,
        "。",
        "，",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{c}" for c in "aehiorst"),
    ]
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    write_json(directory / "tokenizer_config.json", {"do_lower_case": False})
    found = check(directory, "bert")
    found.save(directory)
    assert Tokenizer.from_file(str(directory / "tokenizer.json")).encode("今天很好").tokens[1:-1] == [*"今天很好"]


@pytest.mark.parametrize(("name", "settings"), [("roberta", None), ("roberta-pad", {"add_prefix_space": True})])
def test_vocab_json_and_merges_txt(
    checkpoint: Checkpoint, bare: Callable[[str], Path], name: str, settings: dict[str, Any] | None
) -> None:
    directory = bare(name)
    model = json.loads((checkpoint(name) / "tokenizer.json").read_text())["model"]
    write_json(directory / "vocab.json", model["vocab"])
    (directory / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    if settings is not None:
        write_json(directory / "tokenizer_config.json", settings)
    found = check(directory, "roberta")
    assert found.definition["model"]["merges"] == model["merges"]
    assert found.definition["pre_tokenizer"]["add_prefix_space"] is bool(settings)


@pytest.mark.parametrize("file", ["sentencepiece.bpe.model", "spiece.model"])
@pytest.mark.parametrize("family", ["xlm-roberta", "camembert"])
def test_sentencepiece_models(bare: Callable[[str], Path], sentencepiece_model: bytes, family: str, file: str) -> None:
    import sentencepiece

    directory = bare(family)
    (directory / file).write_bytes(sentencepiece_model)
    found = check(directory, family, vocab_file=str(directory / file))
    assert (found.definition["model"]["type"], found.definition["normalizer"]["type"]) == ("Unigram", "Precompiled")
    # The pieces are sentencepiece's own too.
    found.save(directory)
    ours = Tokenizer.from_file(str(directory / "tokenizer.json"))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model)
    for text in (*CORPUS, *TEXTS):
        assert ours.encode(text, add_special_tokens=False).tokens == theirs.encode(text, out_type=str)


ENDS = {"bos_piece": "[CLS]", "eos_piece": "[SEP]", "pad_id": 0}
LATER = {
    "deberta-v2": {"pad_piece": "[PAD]", "bos_id": 1, "eos_id": 2, "unk_id": 3, "unk_piece": "[UNK]"},
    "albert": {"unk_id": 1, "bos_id": 2, "eos_id": 3, "control_symbols": ["[MASK]"]},
}


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("deberta-v2", None),
        ("deberta-v2", {"do_lower_case": True, "split_by_punct": True}),
        ("albert", None),
        ("albert", {"do_lower_case": False, "keep_accents": True}),
    ],
)
def test_sentencepiece_models_of_later_families(
    bare: Callable[[str], Path], family: str, settings: dict[str, Any] | None
) -> None:
    """As published: with a file's name and special tokens of their own."""
    directory = bare(family)
    (directory / FAMILIES[family].sentencepiece).write_bytes(trained(**ENDS, **LATER[family]))
    if settings is not None:
        write_json(directory / "tokenizer_config.json", settings)
    found = check(directory, family)
    assert found.warnings == ()
    assert {"cls", "sep", "pad", "mask", "unk"} <= found.special_tokens.keys()


def test_a_sentencepiece_model_without_the_library(
    bare: Callable[[str], Path], sentencepiece_model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = bare("xlm-roberta")
    (directory / "sentencepiece.bpe.model").write_bytes(sentencepiece_model)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"with which sentencepiece\.bpe\.model is read, is not installed"):
        read_tokenizer(directory, FAMILIES["xlm-roberta"])


def test_files_of_another_family(checkpoint: Checkpoint, bare: Callable[[str], Path]) -> None:
    directory = bare("xlm-roberta")
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in wordpieces(checkpoint("bert"))))
    with pytest.raises(CheckpointError, match="none of the vocabulary files that xlm-roberta tokenizers are made from"):
        read_tokenizer(directory, FAMILIES["xlm-roberta"])


def test_vocab_json_needs_its_merges(bare: Callable[[str], Path]) -> None:
    directory = bare("roberta")
    write_json(directory / "vocab.json", {"a": 0})
    with pytest.raises(CheckpointError, match=r"has vocab\.json, but not the merges\.txt that belongs to it"):
        read_tokenizer(directory, FAMILIES["roberta"])


def test_a_damaged_sentencepiece_model(bare: Callable[[str], Path]) -> None:
    directory = bare("camembert")
    (directory / "sentencepiece.bpe.model").write_bytes(b"junk" * 100)
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json, and none could be built"):
        read_tokenizer(directory, FAMILIES["camembert"])


def test_no_tokenizer_at_all(bare: Callable[[str], Path]) -> None:
    with pytest.raises(CheckpointError, match=r"has no tokenizer: neither tokenizer\.json"):
        read_tokenizer(bare("bert"), FAMILIES["bert"])


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    write_json(tmp_path / "tokenizer.json", {"model": 1})
    with pytest.raises(CheckpointError, match="not a tokenizer of the tokenizers library"):
        read_tokenizer(tmp_path, FAMILIES["bert"])


def test_truncation_and_padding_are_left_to_callers(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(checkpoint("bert"), tmp_path / "copy"))
    edit_json(directory / "tokenizer.json", truncation={"max_length": 7}, padding={"strategy": "BatchLongest"})
    read_tokenizer(directory, FAMILIES["bert"]).save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert saved["truncation"] is saved["padding"] is None


def test_the_tokenizer_s_settings_go_before_its_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(checkpoint("bert"), tmp_path / "copy"))
    edit_json(directory / "tokenizer_config.json", do_lower_case=False, truncation_side="left", model_max_length=1e30)
    found = read_tokenizer(directory, FAMILIES["bert"])
    assert found.definition["normalizer"]["lowercase"] is False
    assert (found.truncation_side, found.model_max_length) == ("left", 0)
