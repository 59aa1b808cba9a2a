"""Parses the items of a message for a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertstream.server.core.errors import invalid
from bertstream.server.core.sent import ChoiceLists, Sent, SentItems
from bertstream.server.core.tasks.base import Task
from bertstream.server.protocols.bertstream_v1.validation.inputs import parse_inputs
from bertstream.v1 import tasks_pb2, types_pb2

Inputs = types_pb2.TextBatch | types_pb2.Texts | types_pb2.TextPairs | tasks_pb2.ChoiceLists


def batch_of(inputs: Inputs) -> tuple[types_pb2.TextBatch | tasks_pb2.ChoiceLists, str]:
    """Return a request's `inputs` as items_for takes them, and the path before an item's index if not the usual one."""
    match inputs:
        case types_pb2.Texts():
            return types_pb2.TextBatch(texts=inputs), "inputs.texts"
        case types_pb2.TextPairs():
            return types_pb2.TextBatch(pairs=inputs), "inputs"
    return inputs, ""


def items_for(
    task: Task[Any],
    batch: types_pb2.TextBatch | tasks_pb2.ChoiceLists,
    path: str = "inputs",
    bad: Sequence[int] = (),
    field: str = "",
    options: str = "options",
) -> SentItems:
    """Return items of a kind that the task takes; `bad` are the indexes of those that are not UTF-8.

    `field` is the path before an item's index, where that is not `path` and the kind. Raises INVALID_ARGUMENT with the
    field's path.
    """
    if isinstance(batch, tasks_pb2.ChoiceLists):
        if "choices" not in task.kinds:
            raise invalid(path, "this task takes texts, not choices", "INVALID_INPUT_KIND")
        lists = ChoiceLists(list(batch.prompts), list(batch.choices), np.array(batch.choice_counts, np.int64))
        return Sent(lists, path, f"{path}.prompts", bad, options=options)
    if "choices" in task.kinds:
        raise invalid(path, "this task takes choices, not texts", "INVALID_INPUT_KIND")
    kind = batch.WhichOneof("content")
    if kind is not None and kind not in task.kinds:
        raise invalid(f"{path}.{kind}", f"this task takes {' or '.join(task.kinds)}", "INVALID_INPUT_KIND")
    inputs = parse_inputs(batch, path, task.model.limits.max_texts, field)
    return Sent(inputs, path, field or f"{path}.{kind}", bad, options=options)
