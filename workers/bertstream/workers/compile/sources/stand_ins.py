"""Recognise what often stands in for a checkpoint's file: a pointer to it, a web page, nothing, or its beginning."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from bertstream.workers.compile.sources.bounds import file_problem, header_problem
from bertstream.workers.compile.sources.errors import CheckpointError

_HEAD_BYTES = 1024
# The first line of https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<?xml")
# What the hub answers in place of a file that does not exist or that the caller may not read.
_ANSWERS = (b"Entry not found", b"Repository not found", b"Invalid username or password", b"Access to model ")
_WEIGHTS = (".safetensors", ".bin", ".pt")
_ZIP = b"PK\x03\x04"  # the beginning of a pytorch_model.bin since torch 1.6


def refuse_stand_in(path: Path) -> None:
    """Raise CheckpointError that says what the file is instead, and what to do about it.

    Of weights, only the beginning and the end are read. A file that cannot be read is left to its reader to report.
    """
    try:
        found = _stand_in(path)
    except OSError:
        return
    if found is not None:
        raise CheckpointError(f"{path} {found}")


def _stand_in(path: Path) -> str | None:
    if problem := file_problem(path):
        return problem
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    wanted = "the weights" if path.suffix in _WEIGHTS else "the file itself"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not size:
        return "is empty: download it again"
    if not head.strip(b"\0"):
        return "begins with nothing but zeros, so its download has not ended: download it again"
    if text.startswith(_POINTER):
        return f'is a Git LFS pointer, not {wanted}: run "git lfs pull" in {path.parent}'
    if text.lower().startswith(_PAGE):
        return (
            f"was saved from a web page, and is not {wanted}: download the raw file, "
            "whose address on the hub has /resolve/ where the page's has /blob/"
        )
    if text.startswith(_ANSWERS):
        answer = text.decode("utf-8", "replace").splitlines()[0][:80]
        return f"has the hub's answer {answer!r} in it, not {wanted}: download it again, with a token if it needs one"
    return _cut_off(path, head, size) if path.suffix in _WEIGHTS else None


def _cut_off(path: Path, head: bytes, size: int) -> str | None:
    if path.suffix == ".safetensors":
        if problem := header_problem(_header_bytes(head)):
            return problem
        wanted = _safetensors_bytes(path, head)
        if 0 < wanted < size:
            return f"has {size:,} bytes, and its header speaks of {wanted:,}: download it again"
        is_cut, of = size < wanted, f" of {wanted:,}"
    else:
        is_cut, of = head.startswith(_ZIP) and not zipfile.is_zipfile(path), ""
    return f"is cut off, at {size:,}{of} bytes: download it again" if is_cut else None


def _safetensors_bytes(path: Path, head: bytes) -> int:
    """Return the length that the file's header gives, as far as it can be read; 0 where there is no such header.

    Source: https://huggingface.co/docs/safetensors: the length of the header in 8 bytes, the header, the tensors.
    """
    start = 8 + _header_bytes(head)
    if head[8:9] != b"{":
        return 0
    if path.stat().st_size < start:
        return start
    with path.open("rb") as file:
        file.seek(8)
        header = file.read(start - 8)
    try:
        tensors = [value for name, value in json.loads(header).items() if name != "__metadata__"]
        return start + max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return 0


def _header_bytes(head: bytes) -> int:
    return int.from_bytes(head[:8], "little") if head[8:9] == b"{" else 0
