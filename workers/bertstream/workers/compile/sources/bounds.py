"""Bound the numbers and file sizes that a checkpoint may have.

The bounds are far above those of any real model, so that a false number makes us allocate nothing.
"""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import Any, TypeGuard

from bertstream.workers.compile.sources.errors import CheckpointError

MOST_LABELS = 1 << 20
MOST_WIDTH = 1 << 20  # the widest vector that a sentence-transformers module may make
_JSON_BYTES = 16 << 20
_VOCABULARY_BYTES = 128 << 20  # the longest tokenizer.json, vocab.txt and the like
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
_HEADER_BYTES = 100_000_000  # the longest header of a safetensors file; its library reads no more either
_SHOWN = 40


def is_count(value: Any) -> TypeGuard[int]:
    """Return whether a value of JSON is a whole number of 0 or more, and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def check_count(value: Any, most: int, path: Path, key: str) -> int:
    """Return a number of things, from 1 to `most`. Raises CheckpointError that names key, value and bound."""
    if not is_count(value) or not 1 <= value <= most:
        raise CheckpointError(f"{path}: {key} must be a whole number from 1 to {most:,}, not {shown(value)}")
    return int(value)


def check_share(value: Any, path: Path, key: str) -> float:
    """Return a number above 0 and at most 1. Raises CheckpointError as check_count does."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not 0 < value <= 1:
        raise CheckpointError(f"{path}: {key} must be a number above 0 and at most 1, not {shown(value)}")
    return float(value)


def shown(value: Any) -> str:
    """Return a value as it stands in an error: some of it, on one line."""
    return shortened(repr(value))


def shortened(text: str) -> str:
    """Return a text as it stands in an error: its beginning."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def file_problem(path: Path) -> str:
    """Return why a file is not opened or read, as the end of a sentence, or "" if it is. Raises OSError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    most = _most_bytes(path)
    if most and status.st_size > most:
        return f"is {status.st_size:,} bytes long, and no more than {most:,} are read"
    return ""


def header_problem(header_bytes: int) -> str:
    """Return why a safetensors header of this length is not read, as file_problem does."""
    if header_bytes <= _HEADER_BYTES:
        return ""
    return f"says that its header has {header_bytes:,} bytes, and no more than {_HEADER_BYTES:,} are read"


def _most_bytes(path: Path) -> int:
    """Return the most bytes that are read of this file; 0 for weights, which may have any size."""
    if path.name in _VOCABULARIES or path.suffix == ".model":
        return _VOCABULARY_BYTES
    return _JSON_BYTES if path.suffix == ".json" else 0
