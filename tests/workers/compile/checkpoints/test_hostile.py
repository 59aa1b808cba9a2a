"""Test checkpoints made to do harm: each is refused in one line, and no memory is allocated for it."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import resource
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertstream.workers.compile.checkpoints import (
    CheckpointError,
    read_config,
    read_generation,
    read_sentence_settings,
)
from bertstream.workers.compile.compiler import compile_model
from tests.support.checkpoints import edit_json, sentence_files, write_json

Checkpoint = Callable[[str], Path]
MEMORY_KIB = 300 << 10  # the most that any test may take, torch's first use included

HUGE, NAN = 10**18, float("nan")
NO_NUMBERS: tuple[Any, ...] = (True, "768", 768.0, NAN, math.inf, [768], {"a": 1}, "x" * 10_000)
NO_COUNTS: tuple[Any, ...] = (*NO_NUMBERS, 0, -1, -HUGE, HUGE, 10**400)
COUNTS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("max_position_embeddings", "type_vocab_size"),
)


@pytest.fixture
def copy(checkpoint: Checkpoint, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(checkpoint(name), tmp_path / name))


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BERTSTREAM_NATIVE", "0")  # operators have no part in this
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KIB


def refusal(directory: Path) -> str:
    """Return the error for the checkpoint, which is one short line."""
    with pytest.raises(CheckpointError) as raised:
        compile_model(directory, cache=directory / "cache")
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 400 + 2 * len(str(directory))
    return message


def refused(read: Callable[[], object]) -> str:
    """Return the message of our error, or "" where the file is valid; any other error fails the test."""
    try:
        read()
    except CheckpointError as error:
        return str(error)
    return ""


def understood(directory: Path) -> None:
    assert read_config(directory).shape.layers >= 1
    read_generation(directory, vocabulary_size=100, max_tokens=100, has_source=False, first_token=2)


# config.json


@pytest.mark.parametrize("key", COUNTS)
@pytest.mark.parametrize("value", NO_COUNTS, ids=lambda value: repr(value)[:12])
def test_numbers_of_things_have_bounds(copy: Callable[[str], Path], key: str, value: Any) -> None:
    directory = copy("bert")
    edit_json(directory / "config.json", **{key: value})
    message = refusal(directory)
    assert message.startswith(f"{directory / 'config.json'}: {key} must be a whole number from 1 to ")
    assert message.endswith(f", not {repr(value)[:40]}{'…' if len(repr(value)) > 40 else ''}")


@pytest.mark.parametrize(
    "value", [*NO_NUMBERS[:2], *NO_NUMBERS[3:], 0, -1e-12, 2, HUGE], ids=lambda value: repr(value)[:12]
)
def test_the_norm_s_epsilon_has_bounds(copy: Callable[[str], Path], value: Any) -> None:
    directory = copy("bert")
    edit_json(directory / "config.json", layer_norm_eps=value)
    assert refusal(directory).startswith(
        f"{directory / 'config.json'}: layer_norm_eps must be a number above 0 and at most 1, not "
    )


def test_heads_must_divide_the_hidden_size(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    edit_json(directory / "config.json", num_attention_heads=5)
    size = json.loads((directory / "config.json").read_text())["hidden_size"]
    assert refusal(directory).endswith(f"hidden_size {size} is not a multiple of num_attention_heads 5")


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, -1, HUGE], ids=lambda value: repr(value)[:12])
def test_numbers_of_labels_have_bounds(copy: Callable[[str], Path], value: Any) -> None:
    directory = copy("bert-classifier")
    edit_json(directory / "config.json", num_labels=value, id2label=None)
    assert refusal(directory).startswith(
        f"{directory / 'config.json'}: num_labels must be a whole number from 1 to 1,048,576"
    )


def test_within_the_bounds_the_weights_must_fit(copy: Callable[[str], Path]) -> None:
    """Nothing is allocated before that is known."""
    directory = copy("bert")
    edit_json(directory / "config.json", vocab_size=1 << 24, hidden_size=3 << 14, intermediate_size=1 << 20)
    assert " is [" in refusal(directory)


KEYS = (
    *("model_type", "architectures", "hidden_act", "pad_token_id", "is_decoder", "add_cross_attention", "pruned_heads"),
    *("position_embedding_type", "quantization_config", "id2label", "label2id", "problem_type", "auto_map"),
    *("tie_word_embeddings", "classifier_dropout", "sentence_transformers", "cross_attention_hidden_size"),
    *("sbert_ce_default_activation_function", "eos_token_id", "decoder_start_token_id", "num_beams"),
)
VALUES: tuple[Any, ...] = (*NO_COUNTS, [], {}, [[]], [None], {"0": None}, {"AutoModel": 5}, False, "")


@pytest.mark.parametrize("name", ["bert", "roberta-pad", "bert-classifier"])
@pytest.mark.parametrize("key", KEYS)
def test_any_value_is_understood_or_refused(copy: Callable[[str], Path], name: str, key: str) -> None:
    """A refusal is an error of ours, whose message is short enough."""
    directory = copy(name)
    before = (directory / "config.json").read_text()
    for value in VALUES:
        edit_json(directory / "config.json", **{key: value})
        message = refused(lambda: understood(directory))
        assert "\n" not in message
        assert len(message) < 300 + len(str(directory))
        (directory / "config.json").write_text(before)


@pytest.mark.parametrize(
    "file", ["config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json"]
)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:12])
def test_any_value_of_sentence_transformers_files(copy: Callable[[str], Path], file: str, value: Any) -> None:
    directory = sentence_files(copy("bert"))
    found = json.loads((directory / file).read_text()) if (directory / file).exists() else {}
    more = ("prompts", "default_prompt_name", "truncate_dim", "max_seq_length", "do_lower_case", "modality_config")
    kinds = ("pooling_mode", "transformer_task", "module_output_name", "activation_fn", "model_type")
    for key in (*found, *more, *kinds):
        write_json(directory / file, found | {key: value})
        message = refused(lambda: read_sentence_settings(directory, 32))
        assert "\n" not in message
        assert len(message) < 300 + len(str(directory))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:12])
def test_any_value_of_multi_vector_files(copy: Callable[[str], Path], value: Any) -> None:
    directory = sentence_files(copy("bert"))
    file = directory / "config_sentence_transformers.json"
    lengths = (
        "query_length",
        "document_length",
        "max_seq_length",
        "similarity_fn_name",
        "prompts",
        "default_prompt_name",
    )
    marks = ("query_prefix", "document_prefix", "skiplist_words", "do_query_expansion", "attend_to_expansion_tokens")
    for found in ({"model_type": "MultiVectorEncoder"}, {"query_prefix": "[Q] ", "document_prefix": "[D] "}):
        for key in (*lengths, *marks, "query_expansion", "model_type"):
            write_json(file, found | {key: value})
            message = refused(lambda: read_sentence_settings(directory, 32))
            assert "\n" not in message
            assert len(message) < 300 + len(str(directory))


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 200_000, "5", "\x00", "9" * 5000, '{"a": ' + "9" * 5000 + "}"]
)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "modules.json"])
def test_json_that_breaks_parsers(copy: Callable[[str], Path], file: str, text: str) -> None:
    directory = copy("bert")
    (directory / file).write_text(text)
    assert str(directory / file) in refusal(directory)


# files


@pytest.mark.parametrize(
    ("file", "most"),
    [("config.json", "16,777,216"), ("tokenizer.json", "134,217,728"), ("tokenizer_config.json", "16,777,216")],
)
def test_files_have_bounds(copy: Callable[[str], Path], file: str, most: str) -> None:
    directory = copy("bert")
    os.truncate(directory / file, 1 << 40)
    assert refusal(directory) == f"{directory / file} is 1,099,511,627,776 bytes long, and no more than {most} are read"


def test_a_vocabulary_has_bounds_too(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    (directory / "tokenizer.json").unlink()
    (directory / "vocab.txt").touch()
    os.truncate(directory / "vocab.txt", 1 << 40)
    assert refusal(directory).endswith(
        "vocab.txt is 1,099,511,627,776 bytes long, and no more than 134,217,728 are read"
    )


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "vocab.txt", "modules.json"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_not_opened(copy: Callable[[str], Path], file: str, kind: str) -> None:
    """Reading it might never end, or never begin."""
    directory = copy("bert")
    if file == "vocab.txt":
        (directory / "tokenizer.json").unlink()
    (directory / file).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(directory / file)
    else:
        (directory / file).symlink_to("/dev/zero")
    assert refusal(directory) == f"{directory / file} is not a regular file"


# weights


def header(path: Path, length: int | None = None, **tensors: Any) -> None:
    """Write a safetensors file that begins with this header, and gives this length."""
    text = json.dumps(tensors).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + b"\0" * 64)


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


NAME = "embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda path: header(path, 1 << 62), "no more than 100,000,000 are read"),
        (lambda path: header(path, 90_000_000), "is cut off"),
        (lambda path: header(path, a=entry([4], 0, 16)), "its header speaks of"),
        (lambda path: header(path, a=entry([1 << 40], 0, 1 << 42)), "is cut off"),
        (lambda path: header(path, a=entry([1 << 40], 0, 64)), "not a sound safetensors file"),
        (lambda path: header(path, a=entry([1 << 62, 1 << 62], 0, 64)), "not a sound safetensors file"),
        (lambda path: header(path, a=entry([-4, -4], 0, 64)), "not a sound safetensors file"),
        (lambda path: header(path, a=entry([16], 64, 0)), "its header speaks of|not a sound safetensors file"),
        (lambda path: header(path, a=entry([16], -64, 64)), "not a sound safetensors file"),
        (lambda path: header(path, a=entry([16], 0, 64), b=entry([16], 0, 64)), "not a sound safetensors file"),
        (lambda path: header(path, a=entry([16], 0, 64, "F4096")), "not a sound safetensors file"),
        (lambda path: header(path, a={"dtype": "F32"}), "not a sound safetensors file"),
        (lambda path: header(path, a=5), "not a sound safetensors file"),
        (lambda path: path.write_bytes((200_000).to_bytes(8, "little") + b'{"a":' * 40_000), "not a sound safetensors"),
    ],
)
def test_headers_that_lie(copy: Callable[[str], Path], made: Callable[[Path], None], why: str) -> None:
    directory = copy("bert")
    path = directory / "model.safetensors"
    made(path)
    message = refusal(directory)
    assert message.startswith(str(path))
    assert re.search(why, message)


def test_a_long_header_is_not_read(copy: Callable[[str], Path]) -> None:
    """The file is as long as its header says."""
    directory = copy("bert")
    header(directory / "model.safetensors", 1 << 39)
    os.truncate(directory / "model.safetensors", 1 << 40)
    assert refusal(directory).endswith("its header has 549,755,813,888 bytes, and no more than 100,000,000 are read")


@pytest.fixture
def pickled(copy: Callable[[str], Path]) -> Path:
    """Return a checkpoint whose weights are a pickle."""
    directory = copy("bert")
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save(weights, directory / "pytorch_model.bin")
    return directory


def test_a_pickle_of_compressed_parts(pickled: Path) -> None:
    """They are compressed a thousandfold, so a small file would fill all memory."""
    path, bomb = pickled / "pytorch_model.bin", pickled / "bomb"
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(bomb, "w") as after:
        for part in before.infolist():
            after.writestr(part.filename, before.read(part), compress_type=zipfile.ZIP_DEFLATED)
    bomb.replace(path)
    assert re.fullmatch(rf"{path} has the compressed part '.*', which torch does not write", refusal(pickled))


def test_a_pickle_of_tensors_that_are_larger_than_the_file(pickled: Path) -> None:
    """All rows are the same memory, so that their sum may be any size."""
    path = pickled / "pytorch_model.bin"
    weights = torch.load(path, weights_only=True)
    torch.save(weights | {NAME: torch.zeros(1).expand(1 << 20, 1 << 20)}, path)
    assert refusal(pickled) == f"{path}: weight '{NAME}' is larger than what the file has of it"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_claims_more_than_it_has(pickled: Path, zipped: bool) -> None:
    """The number of elements of a storage is wrong."""
    path = pickled / "pytorch_model.bin"
    torch.save({NAME: torch.zeros(77)}, path, _use_new_zipfile_serialization=zipped)
    few, many = b"K" + bytes([77]), b"J" + (1 << 30).to_bytes(4, "little")
    if zipped:
        claiming = pickled / "claiming"
        with zipfile.ZipFile(path) as before, zipfile.ZipFile(claiming, "w") as after:
            for part in before.infolist():
                after.writestr(part.filename, before.read(part).replace(few, many))
        claiming.replace(path)
    else:
        path.write_bytes(path.read_bytes().replace(few, many))
    assert refusal(pickled).startswith(f"{path} is not a sound weights file: ")


@pytest.mark.parametrize("content", [b"hello", b"error", bytes(range(40)), b"101"])
def test_a_file_that_is_no_pickle_is_told_as_what_it_is(pickled: Path, content: bytes) -> None:
    path = pickled / "pytorch_model.bin"
    path.write_bytes(content)
    about = f"it begins with {content[:16]!r}, and not as a zip file or a pickle does"
    assert refusal(pickled) == f"{path} is not a sound weights file: {about}"


@pytest.mark.parametrize(("content", "error"), [(b"\x80\x02he", "KeyError: 101"), (b"\x80\x02Q.", "IndexError: pop")])
def test_a_damaged_pickle_is_told_as_one(pickled: Path, content: bytes, error: str) -> None:
    path = pickled / "pytorch_model.bin"
    path.write_bytes(content)
    assert refusal(pickled).startswith(f"{path} is not a sound weights file: its pickle is damaged ({error}")


class Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(PLANTED),)


PLANTED = Path("planted-by-a-pickle")


@pytest.mark.parametrize("zipped", [True, False, None])
def test_code_in_a_pickle_is_not_run(
    pickled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, zipped: bool | None
) -> None:
    monkeypatch.chdir(tmp_path)
    path = pickled / "pytorch_model.bin"
    if zipped is None:
        path.write_bytes(pickle.dumps(Planted(), protocol=2))
    else:
        torch.save({NAME: Planted()}, path, _use_new_zipfile_serialization=zipped)
    assert "refused: it could run code" in refusal(pickled)
    assert not PLANTED.exists()


def test_code_beside_the_weights_is_neither_run_nor_passed_over(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    (directory / "modeling.py").write_text("import pathlib; pathlib.Path(__file__).with_name('planted').touch()\n")
    edit_json(directory / "config.json", auto_map={"AutoModel": "modeling.Model", "AutoConfig": "modeling.Config"})
    assert "the checkpoint's own code for AutoModel is not supported" in refusal(directory)
    compile_model(directory, cache=directory / "cache", allow_unsupported_modules=True)
    assert not (directory / "planted").exists()
    assert "modeling" not in sys.modules
