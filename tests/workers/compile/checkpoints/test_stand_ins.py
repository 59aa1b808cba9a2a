"""Test files that are not what they are named: the error says what was found in which file, and what to do."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bertstream.workers.compile.checkpoints import CheckpointError, read_tokenizer, weight_files
from bertstream.workers.compile.checkpoints.families import FAMILIES
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.compile.sources.stand_ins import refuse_stand_in

Checkpoint = Callable[[str], Path]

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"
)
STAND_INS = {
    "pointer": (POINTER, 'is a Git LFS pointer, not {what}: run "git lfs pull" in {folder}'),
    "page": (
        b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html><head></head></html>",
        "was saved from a web page, and is not {what}: download the raw file, whose address on the hub has /resolve/ "
        "where the page's has /blob/",
    ),
    "bare page": (b"<HTML lang=en>", "was saved from a web page, and is not {what}: download the raw file, whose"),
    "nothing": (b"", "is empty: download it again"),
    "zeros": (b"\0" * 5000, "begins with nothing but zeros, so its download has not ended: download it again"),
    "answer": (
        b"Entry not found",
        "has the hub's answer 'Entry not found' in it, not {what}: download it again, with a",
    ),
}
FILES = {  # the file -> the checkpoint that has it, and what is removed so that it is read
    "config.json": ("bert", ()),
    "tokenizer.json": ("bert", ()),
    "tokenizer_config.json": ("bert", ()),
    "special_tokens_map.json": ("bert", ()),
    "added_tokens.json": ("bert", ()),
    "model.safetensors": ("bert", ()),
    "model.safetensors.index.json": ("bert", ("model.safetensors",)),
    "pytorch_model.bin": ("bert", ("model.safetensors",)),
    "pytorch_model.bin.index.json": ("bert", ("model.safetensors",)),
    "vocab.txt": ("bert", ("tokenizer.json",)),
    "vocab.json": ("roberta", ("tokenizer.json",)),
    "merges.txt": ("roberta", ("tokenizer.json",)),
    "sentencepiece.bpe.model": ("xlm-roberta", ("tokenizer.json",)),
    "modules.json": ("bert", ()),
}


@pytest.mark.parametrize("kind", STAND_INS)
@pytest.mark.parametrize("name", FILES)
def test_each_file_and_each_stand_in(
    checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path, name: str, kind: str
) -> None:
    base, removed = FILES[name]
    directory = Path(shutil.copytree(checkpoint(base), tmp_path / "checkpoint"))
    for other in removed:
        (directory / other).unlink()
    if name == "merges.txt":
        (directory / "vocab.json").write_text('{"a": 0}')
    content, says = STAND_INS[kind]
    (directory / name).write_bytes(content)
    what = "the weights" if name.endswith((".safetensors", ".bin")) else "the file itself"
    expected = f"{directory / name} {says.format(what=what, folder=directory)}"
    with pytest.raises(CheckpointError, match=f"^{re.escape(expected)}") as caught:
        compile_model(directory, cache=compile_cache)
    assert "\n" not in str(caught.value)


def test_a_file_that_nobody_reads_may_be_a_pointer(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(checkpoint("xlm-roberta"), tmp_path / "checkpoint"))
    for name in ("sentencepiece.bpe.model", "pytorch_model.bin", "vocab.txt"):
        (directory / name).write_bytes(POINTER)
    assert weight_files(directory) == [directory / "model.safetensors"]
    assert read_tokenizer(directory, FAMILIES["xlm-roberta"]).special_tokens["mask"][0] == "<mask>"


@pytest.mark.parametrize("kept", [20, 3000, -1])
def test_safetensors_that_are_cut_off(checkpoint: Checkpoint, tmp_path: Path, kept: int) -> None:
    """Cut in the header, in the tensors, and by one byte."""
    directory = Path(shutil.copytree(checkpoint("bert"), tmp_path / "checkpoint"))
    path = directory / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    header = 8 + int.from_bytes(whole[:8], "little")
    had, wanted = len(whole[:kept]), len(whole) if kept < 0 or kept > header else header
    message = f"{path} is cut off, at {had:,} of {wanted:,} bytes: download it again"
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        weight_files(directory)


def test_a_shard_that_is_a_pointer(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(checkpoint("bert"), tmp_path / "checkpoint"))
    found = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    save_file(found, directory / shards[0])
    (directory / shards[1]).write_bytes(POINTER)
    index = {"weight_map": {name: shards[number % 2] for number, name in enumerate(found)}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        CheckpointError, match=r"model-00002-of-00002\.safetensors is a Git LFS pointer, not the weights"
    ):
        weight_files(directory)


@pytest.mark.parametrize("part", [0.5, 0.99])
def test_a_pickle_that_is_cut_off(checkpoint: Checkpoint, tmp_path: Path, part: float) -> None:
    directory = Path(shutil.copytree(checkpoint("bert"), tmp_path / "checkpoint"))
    path = directory / "pytorch_model.bin"
    torch.save(load_file(directory / "model.safetensors"), path)
    (directory / "model.safetensors").unlink()
    assert weight_files(directory) == [path]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    message = f"{path} is cut off, at {int(len(whole) * part):,} bytes: download it again"
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        weight_files(directory)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.safetensors", b"\x09\0\0\0\0\0\0\0{not json"),
        ("a.safetensors", b'\x08\0\0\0\0\0\0\0{"a": 1}'),
        ("a.safetensors", b"junk"),
        ("a.bin", b"junk"),
        ("vocab.txt", b"[PAD]\n<html"),
        ("a.json", b"{}"),
    ],
)
def test_what_is_wrong_in_other_ways_is_left_to_its_reader(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    refuse_stand_in(path)
    assert path.read_bytes() == content
    refuse_stand_in(tmp_path / "not there")
