"""The task "zero_shot": the caller's labels of texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Required

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._columns import joined, named, split
from bertstream.client._fields import set_field, set_fields, strings_of
from bertstream.client._tasks.items import preparing
from bertstream.client._tasks.labels import Label
from bertstream.client._tasks.options import TaskOptions, with_common
from bertstream.client._tasks.task import Task
from bertstream.client._texts import Group
from bertstream.v1 import tasks_pb2 as tasks
from bertstream.v1 import types_pb2 as types


class ZeroShotOptions(TaskOptions, total=False):
    """Keyword arguments of `zero_shot`: those of TaskOptions, and these."""

    template: str
    """The sentence that is made of a label, with {} in its place; empty for "This example is {}."."""
    multi_label: bool
    """Whether any number of labels may be true, each scored on its own; else their scores add up to 1."""


class ZeroShotCall(CallOptions, ZeroShotOptions, total=False):
    """Keyword arguments of `zero_shot`, for type checkers."""


class ZeroShotStream(StreamOptions, ZeroShotOptions, total=False):
    """Keyword arguments of a stream of "zero_shot"."""

    labels: Required[Sequence[str]]


def zero_shot_task(
    *, labels: Sequence[str], template: str = "", multi_label: bool = False, **given: Any
) -> Task[list[Label]]:
    """Return the task for ZeroShotOptions and the labels. Raises ValueError or TypeError for unusable values."""
    some = strings_of(labels, "labels")
    if not some:
        raise ValueError("labels is empty; give at least one")
    options = tasks.ZeroShotOptions(labels=some)
    set_fields(options, multi_label=multi_label)
    set_field(options, "hypothesis_template", template, "template")
    return Task(
        with_common(options, **given),
        tasks.ClassifyZeroShotRequest,
        tasks.ZeroShotLabels,
        preparing("zero_shot", ("texts",), len(some)),
        partial(zero_shot_labels_of, labels=some),
        inputs=_texts,
        renamed=_renamed,
    )


def zero_shot_labels_of(message: tasks.ZeroShotLabels, items: int, labels: Sequence[str]) -> list[list[Label]]:
    """Return the caller's labels of each text."""
    names = named(labels, message.label_indexes)
    found = joined(Label, names, message.scores, message.label_indexes)
    return split(found, [message.label_count] * items)


def _texts(group: Group) -> types.Texts:
    return group.batch().texts


def _renamed(options: tasks.ZeroShotOptions) -> dict[str, Any]:
    return {"template": options.hypothesis_template}
