"""The task "encode_sparse": the weights of the vocabulary's tokens for a text (SPLADE)."""

from __future__ import annotations

from typing import Any

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._common_options import set_prompt
from bertstream.client._enums import value_of
from bertstream.client._fields import flag, optional_whole, set_fields
from bertstream.client._sparse import SparseVector, sparse_vectors
from bertstream.client._tasks.items import ANY, preparing
from bertstream.client._tasks.options import TaskOptions, with_common
from bertstream.client._tasks.task import Task
from bertstream.client._types import TextKind
from bertstream.v1 import tasks_pb2 as tasks
from bertstream.v1 import types_pb2 as types

_AS_TEXTS = 16  # an estimate of the texts that take about as many bytes as one vector


class SparseOptions(TaskOptions, total=False):
    """Keyword arguments of `encode_sparse`: those of TaskOptions, and these."""

    top_k: int | None
    """How many tokens of each text to keep, with the greatest weights; None for all, or as the checkpoint says."""
    kind: TextKind | None
    """What the texts are for, query or document, where the checkpoint treats these in different ways."""
    prompt: str | None
    """Text that is put before every text (before the first of a pair). None for the checkpoint's default prompt."""
    prompt_name: str | None
    """The prompt of that name in the checkpoint's sentence-transformers files."""
    tokens: bool
    """Whether to return the tokens as text too."""


class SparseCall(CallOptions, SparseOptions, total=False):
    """Keyword arguments of `encode_sparse`, for type checkers."""


class SparseStream(StreamOptions, SparseOptions, total=False):
    """Keyword arguments of a stream of "encode_sparse"."""


def encode_sparse_task(
    *,
    top_k: int | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    tokens: bool = False,
    kind: TextKind | None = None,
    **given: Any,
) -> Task[SparseVector]:
    """Return the task for SparseOptions. Raises ValueError for unusable values."""
    options = tasks.SparseOptions(include_tokens=flag(tokens, "tokens"))
    set_fields(options, top_k=optional_whole(top_k, "top_k", 1))
    set_prompt(options, prompt, prompt_name)
    if kind is not None:
        options.text_kind = value_of(types.TextKind, kind, "kind")
    return Task(
        with_common(options, **given),
        tasks.EncodeSparseRequest,
        tasks.SparseVectors,
        preparing("encode_sparse", ANY, _AS_TEXTS),
        sparse_vectors,
    )
