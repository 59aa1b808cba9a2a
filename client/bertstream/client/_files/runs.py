"""Runs over files as both clients make them: a plan, a job and the request of the stream that answers its items."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from itertools import groupby
from typing import Any, TypeAlias

from bertstream.client._calls.requests import Delivery, StreamRequest
from bertstream.client._common_options import refuse_unknown
from bertstream.client._encoding.options import encoding_options, pooled_width
from bertstream.client._encoding.requests import (
    FORWARD_BATCH,
    encode_request,
    multi_vector_rows_request,
    tokenize_request,
)
from bertstream.client._errors import RpcError
from bertstream.client._fields import flag
from bertstream.client._files.options import FileOptions
from bertstream.client._generation.operations import GENERATED_BATCH, generate_request
from bertstream.client._generation.options import SummarizeOptions
from bertstream.client._generation.types import GeneratedBatch
from bertstream.client._tasks.batches import PredictedBatch
from bertstream.client._tasks.operations import predict_request
from bertstream.client._tasks.registry import TASKS
from bertstream.client._types import EncodedBatch, ItemError, Model, OutputsBatch, TokenizedBatch
from bertstream.files.asked import Asked
from bertstream.files.job import Job
from bertstream.files.operations import OPERATIONS
from bertstream.files.plan import Plan, planned
from bertstream.files.rows import ALL, Failure, Keep, inputs_for
from bertstream.files.vectors import VectorFormat

Files: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file, a folder or a pattern such as `corpus/**/*.parquet`, or several; `-` is standard input."""
File: TypeAlias = str | os.PathLike[str]

BATCH = 64
SUMMARIZE = "summarize"
_BATCHES = {"generate": GENERATED_BATCH, SUMMARIZE: GENERATED_BATCH, "encode_multi": FORWARD_BATCH}
_NAMES = FileOptions.__optional_keys__ | {"vectors", "vector_type", "first", "second"}
_WIRE_TYPES = {"float16": "float16", "int8": "int8"}


@dataclass(frozen=True, slots=True)
class FileRun:
    """A run over files that is yet to begin."""

    plan: Plan
    asked: Asked
    request: StreamRequest[Any]
    overwrite: bool
    progress: Any

    def job(self, model: Model) -> Job:
        """Return the run's job, which no other model than this may go on with."""
        width = vector_width(self.asked.operation.name, self.asked.options, model)
        asked = replace(self.asked, model=f"{model.name}@{model.revision}", vector_width=width)
        return Job(self.plan, asked, overwrite=self.overwrite, progress=self.progress)


def file_run(task: str, sources: Files, output: File, given: Mapping[str, Any]) -> FileRun:
    """Return the run of a task, which is the name of a method. Raises ValueError or TypeError for unusable values.

    Raises FileNotFoundError where there is nothing to read.
    """
    if task not in OPERATIONS:
        raise ValueError(f"task must be one of {', '.join(map(repr, TASKS))}, not {task!r}")
    of_files = {name: value for name, value in given.items() if name in _NAMES and value is not None}
    options = {name: value for name, value in given.items() if name not in _NAMES}
    stored = VectorFormat(of_files.get("vector_type", "float32"), of_files.get("vectors", "list"))
    if OPERATIONS[task].vectors:
        options["wire_type"] = options.get("wire_type") or _WIRE_TYPES.get(stored.dtype)
    operation = OPERATIONS[task]
    inputs = inputs_for(operation, _names(of_files.get("column", ())), of_files.get("first"), of_files.get("second"))
    plan = planned(_paths(sources), os.fspath(output), of_files.get("format"), of_files.get("input_format"))
    asked = Asked(operation, inputs, options, _keep(of_files.get("keep", ())), stored)
    asked.check(plan)
    request = stream_request(task, options, of_files.get("batch_size"))
    overwrite = flag(of_files.get("overwrite", False), "overwrite")
    return FileRun(plan, asked, request, overwrite, of_files.get("progress", False))


def vector_width(task: str, options: Mapping[str, Any], model: Model) -> int:
    """Return how many numbers a vector has that a task gives; 0 if it gives none, or the model cannot."""
    if task == "encode":
        return pooled_width(encoding_options(**options).pooling, model)
    if task == "encode_multi" and model.multi_vector is not None:
        return model.multi_vector.dimensions
    return 0


def stream_request(task: str, options: Mapping[str, Any], batch_size: int | None = None) -> StreamRequest[Any]:
    """Return the request of the stream that does a task in order, and goes on where an item fails."""
    usual = _BATCHES.get(task, BATCH)
    delivery = Delivery(on_error="collect", batch_size=usual if batch_size is None else batch_size)
    if task == "encode":
        return encode_request(delivery, **options)
    if task == "encode_multi":
        return multi_vector_rows_request(delivery, **options)
    if task == "tokenize":
        return tokenize_request(delivery, **options)
    if task == SUMMARIZE:
        refuse_unknown(options, SummarizeOptions)
    if task in ("generate", SUMMARIZE):
        return generate_request(delivery, **options)
    return predict_request(task, delivery, **options)


@singledispatch
def outcomes(batch: Any) -> list[tuple[int, Any]]:
    """Return the answer of each item of a batch, or why it failed, by the items' ids and in their order."""
    raise TypeError(f"not a batch of a stream: {type(batch).__name__}")


@outcomes.register(PredictedBatch)
@outcomes.register(GeneratedBatch)
def _of_results(batch: PredictedBatch[Any] | GeneratedBatch[Any]) -> list[tuple[int, Any]]:
    return _sorted(zip(batch.ids.tolist(), batch.results, strict=True), batch.errors)


@outcomes.register
def _of_vectors(batch: EncodedBatch) -> list[tuple[int, Any]]:
    failed = {failure.id for failure in batch.errors}
    rows = zip(batch.ids.tolist(), batch.vectors, strict=True)
    return _sorted((row for row in rows if row[0] not in failed), batch.errors)


@outcomes.register
def _of_multi_vectors(batch: OutputsBatch) -> list[tuple[int, Any]]:
    rows = zip(batch.ids.tolist(), batch.outputs, strict=True)
    return _sorted(((item, outputs.token_vectors) for item, outputs in rows), batch.errors)


@outcomes.register
def _of_tokens(batch: TokenizedBatch) -> list[tuple[int, Any]]:
    ids = batch.ids.tolist()
    windows = groupby(batch.tokens, key=lambda tokens: tokens.text_index)
    return _sorted(((ids[index], list(some)) for index, some in windows), batch.errors)


def _sorted(good: Iterable[tuple[int, Any]], errors: Sequence[ItemError]) -> list[tuple[int, Any]]:
    bad: Iterator[tuple[int, Any]] = ((each.id, failure_of(each.error)) for each in errors)
    return sorted([*good, *bad], key=lambda item: item[0])


def failure_of(error: RpcError) -> Failure:
    """Return an item's error as why its row failed, without the item's place in the stream, which helps nobody."""
    message = error.fields[0].description if len(error.fields) == 1 else error.message
    return Failure(error.reason or error.status, message or error.message, error.status)


def _names(column: str | Sequence[str]) -> Sequence[str]:
    return [column] if isinstance(column, str) else list(column)


def _keep(keep: str | Sequence[str]) -> Keep:
    if isinstance(keep, str):
        return ALL if keep == ALL else (keep,)
    return tuple(keep)


def _paths(sources: Files) -> list[str]:
    return [os.fspath(sources)] if isinstance(sources, str | os.PathLike) else [os.fspath(each) for each in sources]
