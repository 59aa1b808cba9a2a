"""Parses the options of ClassifyTokens for a model that reads the caller's labels together with the text."""

from __future__ import annotations

from bertstream.server.core.errors import invalid, too_large
from bertstream.server.core.tasks.base import HeadModel
from bertstream.server.core.tasks.zero_shot_entities import FindEntities, find_entities
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked
from bertstream.server.protocols.bertstream_v1.validation.names import OFFSET_UNITS
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_priority,
    parse_stride,
    parse_task_truncation,
    refuse_texts,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.server.protocols.enums import name_of, value_of
from bertstream.v1 import tasks_pb2

DEFAULT_THRESHOLD = 0.5


def parse_find_entities(
    options: tasks_pb2.ClassifyTokenOptions, model: HeadModel, default_priority: int, path: str
) -> Asked[FindEntities, tasks_pb2.ClassifyTokenOptions]:
    """Parse the options; the model has the head. Raises INVALID_ARGUMENT with the field's path."""
    _refuse_own_labels(options, path)
    truncation = parse_task_truncation(options.truncation, model.description, f"{path}.truncation")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    unit = name_of(OFFSET_UNITS, options.offset_unit, f"{path}.offset_unit")
    if options.HasField("stride") and not options.windows:
        raise invalid(f"{path}.stride", "it means something only with windows", "INVALID_COMBINATION")
    stride = parse_stride(options.stride, 0, truncation.max_length - 1, f"{path}.stride")
    threshold = options.threshold if options.HasField("threshold") else DEFAULT_THRESHOLD
    if not 0 < threshold < 1:
        raise invalid(f"{path}.threshold", f"{threshold:g} is not between 0 and 1", "INVALID_RANGE")
    _check_labels(options, model, path)
    task = find_entities(
        model,
        truncation,
        priority,
        options.labels,
        path=f"{path}.labels",
        threshold=threshold,
        nested=options.nested,
        multi_label=options.multi_label,
        windows=options.windows,
        stride=stride if options.HasField("stride") else None,
        offset_unit=unit,
    )
    effective = tasks_pb2.ClassifyTokenOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        windows=options.windows,
        stride=task.tokenize.stride if options.windows else None,
        offset_unit=value_of(OFFSET_UNITS, unit),
        labels=options.labels,
        threshold=threshold,
        nested=options.nested,
        multi_label=options.multi_label,
    )
    return Asked(task, effective)


def _refuse_own_labels(options: tasks_pb2.ClassifyTokenOptions, path: str) -> None:
    """Raise INVALID_COMBINATION for an option that goes with labels of the checkpoint's own."""
    for name in ("aggregation", "ignored_labels", "keep_all_labels"):
        if getattr(options, name):
            about = "it goes with a checkpoint's own labels, and this one takes the caller's"
            raise invalid(f"{path}.{name}", about, "INVALID_COMBINATION")


def _check_labels(options: tasks_pb2.ClassifyTokenOptions, model: HeadModel, path: str) -> None:
    if not options.labels:
        about = "the list is empty; say what to look for, since this checkpoint has no labels of its own"
        raise invalid(f"{path}.labels", about, "INVALID_EMPTY_LIST")
    if len(options.labels) > (most := model.limits.max_texts):
        raise too_large(f"{path}.labels", f"{len(options.labels)} labels; the limit is {most}")
    refuse_texts(options.labels, f"{path}.labels", "INVALID_LABEL")
