"""Keyword arguments of the methods that read and write files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from bertstream.client._encoding.options import EncodeOptions, TextOptions, TokenizeOptions
from bertstream.client._generation.options import GenerateOptions, SummarizeOptions
from bertstream.files.formats import InputFormat, OutputFormat
from bertstream.files.progress import FileProgressOption
from bertstream.files.schema import VectorLayout, VectorType


class FileOptions(TypedDict, total=False):
    """Keyword arguments of all methods that read and write files. All may be left out."""

    column: str | Sequence[str]
    """The column with the texts, or two columns with pairs; by default `text`, or what the task calls its own, such as
    `question` and `context`. A file of lines has one column, `text`."""
    keep: Sequence[str] | Literal["all"]
    """Columns of the input that the output has as well."""
    format: OutputFormat | None
    """The output's format, if its name does not say it: parquet (the default for a folder), arrow, jsonl or npy."""
    input_format: InputFormat | None
    """The input's format, if its name does not say it: txt, jsonl, csv, tsv, parquet or arrow."""
    overwrite: bool
    """Whether to take the place of outputs that are there already."""
    progress: FileProgressOption
    """As in the streams, but with a bar on a terminal; a function is called with a FileProgress."""
    batch_size: int
    """How many answers are taken at a time; 64 by default, or 16 of those that are generated, or vectors of tokens."""


class StoredVectorOptions(FileOptions, total=False):
    """Keyword arguments of methods that write vectors: those of FileOptions, and these."""

    vectors: VectorLayout
    """How a vector is stored in Parquet and Arrow: list (of a fixed size, the default), or binary (little-endian)."""
    vector_type: VectorType
    """float32 (the default), float16, or int8, which has a second column with the scale of each row."""


class EncodeFileOptions(StoredVectorOptions, EncodeOptions, total=False):
    """Keyword arguments of `encode_file`: those of StoredVectorOptions and EncodeOptions."""


class EncodeMultiFileOptions(StoredVectorOptions, TextOptions, total=False):
    """Keyword arguments of `encode_multi_file`: those of StoredVectorOptions and TextOptions."""


class TokenizeFileOptions(FileOptions, TokenizeOptions, total=False):
    """Keyword arguments of `tokenize_file`: those of FileOptions and TokenizeOptions."""


class GenerateFileOptions(FileOptions, GenerateOptions, total=False):
    """Keyword arguments of `generate_file`: those of FileOptions and GenerateOptions, and this."""

    num_return_sequences: int | None
    """How many answers each prompt gets."""


class SummarizeFileOptions(FileOptions, SummarizeOptions, total=False):
    """Keyword arguments of `summarize_file`: those of FileOptions and SummarizeOptions."""
