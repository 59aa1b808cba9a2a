"""The task "classify": the checkpoint's labels of texts."""

from __future__ import annotations

from typing import Any

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._columns import check, joined, named, split
from bertstream.client._fields import optional_whole, set_fields
from bertstream.client._tasks.items import ANY, preparing
from bertstream.client._tasks.labels import Label, ScoreFunction, function_of
from bertstream.client._tasks.options import TaskOptions, WindowOptions, with_windows
from bertstream.client._tasks.task import Task
from bertstream.v1 import tasks_pb2 as tasks


class ClassifyOptions(TaskOptions, WindowOptions, total=False):
    """Keyword arguments of `classify`: those of TaskOptions and WindowOptions, and these."""

    top_k: int | None
    """How many labels to return for each text, the best first; None for all."""
    function: ScoreFunction | None
    """softmax (one label is true), sigmoid (any number of them is), or none (raw scores); None for the checkpoint's."""


class ClassifyCall(CallOptions, ClassifyOptions, total=False):
    """Keyword arguments of `classify`, for type checkers."""


class ClassifyStream(StreamOptions, ClassifyOptions, total=False):
    """Keyword arguments of a stream of "classify"."""


def classify_task(
    *, top_k: int | None = None, function: ScoreFunction | None = None, **given: Any
) -> Task[list[Label]]:
    """Return the task for ClassifyOptions. Raises ValueError or TypeError for unusable values."""
    options = tasks.ClassifyTextOptions(function=function_of(function))
    set_fields(options, top_k=optional_whole(top_k, "top_k", 1))
    return Task(
        with_windows(options, **given),
        tasks.ClassifyTextsRequest,
        tasks.TextLabels,
        preparing("classify", ANY),
        labels_of,
    )


def labels_of(message: tasks.TextLabels, items: int) -> list[list[Label]]:
    """Return the checkpoint's labels of each text."""
    check(message.label_counts, items, "label_counts")
    names = named(message.labels, message.label_ids)
    return split(joined(Label, names, message.scores, message.label_ids), message.label_counts)
