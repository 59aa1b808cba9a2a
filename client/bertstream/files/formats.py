"""The formats of files, told by their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

InputFormat: TypeAlias = Literal["txt", "jsonl", "csv", "tsv", "parquet", "arrow"]
OutputFormat: TypeAlias = Literal["parquet", "arrow", "jsonl", "npy"]
Compression: TypeAlias = Literal["gz", "zst"]

_INPUTS: dict[str, InputFormat] = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_OUTPUTS: dict[str, OutputFormat] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".npy": "npy",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst", ".zstd": "zst"}
INPUT_FORMATS: tuple[InputFormat, ...] = tuple(dict.fromkeys(_INPUTS.values()))
OUTPUT_FORMATS: tuple[OutputFormat, ...] = tuple(dict.fromkeys(_OUTPUTS.values()))
INPUT_NAMES = "name.txt, .jsonl, .csv, .tsv (each also with .gz or .zst), .parquet or .arrow"
OUTPUT_NAMES = "name.parquet, .arrow, .jsonl or .npy"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Say how a file is to be read."""

    format: InputFormat
    compression: Compression | None = None


def input_format(name: str) -> Encoded | None:
    """Return the format of a file with this name, or None if its suffix is not known."""
    path = PurePosixPath(name.lower())
    compression = _COMPRESSIONS.get(path.suffix)
    found = _INPUTS.get(path.with_suffix("").suffix if compression else path.suffix)
    if found is None or (compression and found in ("parquet", "arrow")):
        return None
    return Encoded(found, compression)


def output_format(name: str) -> OutputFormat | None:
    """Return the format of an output with this name, or None if its suffix is not known."""
    return _OUTPUTS.get(PurePosixPath(name.lower()).suffix)


def stem(name: str) -> str:
    """Return a file's name without the suffixes of its format and compression."""
    path = PurePosixPath(name)
    path = path.with_suffix("") if path.suffix.lower() in _COMPRESSIONS else path
    return str(path.with_suffix("") if path.suffix.lower() in _INPUTS or path.suffix.lower() in _OUTPUTS else path)
