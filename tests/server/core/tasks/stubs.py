"""A model as tasks see it, without workers, whose numbers tests make up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.layout import Tensors
from bertstream.server.core.tasks.base import Rows, Share, Task
from bertstream.server.core.tokenization import TextTokenizer, ragged
from bertstream.server.protocols.bertstream_v1.tasks.items import items_for
from bertstream.server.settings import Limits
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.compile.checkpoints import read_tokenizer
from bertstream.workers.compile.checkpoints.families import FAMILIES
from bertstream.workers.programs.description import ModelDescription

LIMITS = Limits(
    max_texts=1000,
    max_request_bytes=1 << 24,
    max_message_bytes=1 << 26,
    max_response_bytes=1 << 26,
    stream_items=1024,
    stream_tokens=1 << 18,
    stream_bytes=1 << 26,
    concurrent_calls=1024,
)


@dataclass(frozen=True)
class StubModel:
    """A HeadModel without workers."""

    name: str
    description: ModelDescription
    limits: Limits
    tokenizer: TextTokenizer


def stub_model(checkpoint: Path, folder: Path, *heads: str, labels: Sequence[str] = (), **changed: Any) -> StubModel:
    """Return a model with the checkpoint's tokenizer, compiled and loaded as for serving.

    `changed` are values of its description that differ.
    """
    settings = read_tokenizer(checkpoint, FAMILIES["bert"])
    settings.save(folder)
    size = settings.highest_id + 1
    tokenizer = TextTokenizer.load(
        folder / "tokenizer.json",
        vocabulary_size=size,
        type_vocabulary_size=2,
        clean_up_spaces=settings.clean_up_spaces,
    )
    values: dict[str, Any] = {
        "revision": "0" * 32,
        "family": "bert",
        "architecture": "BertModel",
        "layers": 1,
        "hidden_size": 8,
        "attention_heads": 1,
        "vocabulary_size": size,
        "type_vocabulary_size": 2,
        "max_tokens": 512,
        "default_max_length": 512,
        "has_pooler": False,
        "compute_type": "float32",
        "device": "cpu",
        "native_operators": False,
        "special_tokens": settings.special_tokens,
        "heads": heads,
        "labels": tuple(labels),
    }
    return StubModel("stub", ModelDescription(**(values | changed)), LIMITS, tokenizer)


def prepare(task: Task[Any], batch: types_pb2.TextBatch | tasks_pb2.ChoiceLists, *where: Any, **more: Any) -> Rows[Any]:
    """Return the task's rows for items of the protocol; `where` and `more` are further arguments of items_for."""
    return task.prepare(items_for(task, batch, *where, **more))


def share_of(rows: Rows[Any], items: Sequence[int], tensors: Tensors) -> Share:
    """Return the share of these items from the tensors of all rows, each of which is by row or by token."""
    chosen = np.flatnonzero(np.isin(rows.items, items))
    counts = np.array([(rows.items == item).sum() for item in items], np.int64)
    lengths = rows.batch.lengths
    tokens = ragged.slice_indexes(ragged.first_indexes(lengths)[chosen], lengths[chosen])
    by_token: NDArray[np.int64] = tokens
    cut = {name: values[by_token if len(values) != len(lengths) else chosen] for name, values in tensors.items()}
    return Share(np.array(items, np.int64), chosen, counts, cut)
