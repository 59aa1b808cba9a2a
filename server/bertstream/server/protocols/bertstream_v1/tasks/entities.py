"""Parses the options of ClassifyTokens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bertstream.server.core.errors import invalid, not_suitable
from bertstream.server.core.tasks.base import HeadModel, require_head
from bertstream.server.core.tasks.entities import ClassifyTokens
from bertstream.server.core.tasks.entities_groups import Aggregation, Tags
from bertstream.server.core.tasks.zero_shot_entities import HEAD, FindEntities
from bertstream.server.core.tokenization import TokenizeOptions
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked
from bertstream.server.protocols.bertstream_v1.tasks.zero_shot_entities import parse_find_entities
from bertstream.server.protocols.bertstream_v1.validation.names import OFFSET_UNITS
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_priority,
    parse_stride,
    parse_task_truncation,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.server.protocols.enums import name_of, names_in, value_of
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import HeadOptions, OutputOptions

AGGREGATIONS: Mapping[int, Aggregation] = names_in(tasks_pb2.AggregationStrategy, Aggregation, "simple")


def parse_entities(
    options: tasks_pb2.ClassifyTokenOptions, model: HeadModel, default_priority: int, path: str = "options"
) -> Asked[ClassifyTokens, tasks_pb2.ClassifyTokenOptions] | Asked[FindEntities, tasks_pb2.ClassifyTokenOptions]:
    """Parse the options for the kind of the model: whether it has labels, or reads the caller's. Raises as both do."""
    if HEAD in model.description.heads:
        return parse_find_entities(options, model, default_priority, path)
    return parse_classify_tokens(options, model, default_priority, path)


def parse_classify_tokens(
    options: tasks_pb2.ClassifyTokenOptions, model: HeadModel, default_priority: int, path: str = "options"
) -> Asked[ClassifyTokens, tasks_pb2.ClassifyTokenOptions]:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path, HEAD_NOT_AVAILABLE or HEAD_NOT_SUITABLE."""
    require_head(model.description, "token_classification")
    _refuse_labels(options, path)
    truncation = parse_task_truncation(options.truncation, model.description, f"{path}.truncation")
    aggregation = name_of(AGGREGATIONS, options.aggregation, f"{path}.aggregation")
    stride = _stride(options, truncation.max_length, path)
    if options.keep_all_labels and options.ignored_labels:
        raise invalid(f"{path}.keep_all_labels", "there are ignored_labels too", "INVALID_COMBINATION")
    ignored = [] if options.keep_all_labels else list(options.ignored_labels) or ["O"]
    unit = name_of(OFFSET_UNITS, options.offset_unit, f"{path}.offset_unit")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    labels = model.description.labels
    tags = Tags.of(labels)
    names = labels if aggregation == "none" else tags.groups
    effective = tasks_pb2.ClassifyTokenOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        aggregation=value_of(AGGREGATIONS, aggregation),
        ignored_labels=ignored,
        keep_all_labels=options.keep_all_labels,
        windows=options.windows,
        stride=stride,
        offset_unit=value_of(OFFSET_UNITS, unit),
    )
    task = ClassifyTokens(
        model,
        OutputOptions(("token_label_scores",), head=HeadOptions("token_classification")),
        priority,
        TokenizeOptions(truncation, windows=options.windows, stride=stride or 0),
        aggregation,
        unit,
        tags,
        names,
        np.array([name not in ignored for name in names], np.bool_),
    )
    return Asked(task, effective)


def _refuse_labels(options: tasks_pb2.ClassifyTokenOptions, path: str) -> None:
    """Raise HEAD_NOT_SUITABLE for labels of the caller's, and INVALID_COMBINATION for what goes with them."""
    if options.labels:
        about = "this checkpoint has labels of its own: leave yours out, or ask a GLiNER model"
        raise not_suitable(about, f"{path}.labels")
    for name, is_set in (
        ("threshold", options.HasField("threshold")),
        ("nested", options.nested),
        ("multi_label", options.multi_label),
    ):
        if is_set:
            about = "it goes with labels, and this checkpoint has its own"
            raise invalid(f"{path}.{name}", about, "INVALID_COMBINATION")


def _stride(options: tasks_pb2.ClassifyTokenOptions, max_length: int, path: str) -> int | None:
    """Return the stride of windows, None where there are none."""
    if not options.windows:
        if options.HasField("stride"):
            raise invalid(f"{path}.stride", "it means something only with windows", "INVALID_COMBINATION")
        return None
    asked = options.stride if options.HasField("stride") else None
    return parse_stride(asked, max_length // 4, max_length - 1, f"{path}.stride")
