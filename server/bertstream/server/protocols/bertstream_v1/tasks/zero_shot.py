"""Parses the options of ClassifyZeroShot."""

from __future__ import annotations

from bertstream.server.core.errors import invalid, not_suitable, too_large
from bertstream.server.core.tasks.base import HeadModel, require_head
from bertstream.server.core.tasks.zero_shot import ClassifyZeroShot, entailment_label
from bertstream.server.core.tokenization import TokenizeOptions
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_priority,
    parse_task_truncation,
    refuse_texts,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import HeadOptions, OutputOptions
from bertstream.workers.programs.description import ModelDescription

DEFAULT_TEMPLATE = "This example is {}."
_PLACE = "{}"


def parse_zero_shot(
    options: tasks_pb2.ZeroShotOptions, model: HeadModel, default_priority: int, path: str
) -> Asked[ClassifyZeroShot, tasks_pb2.ZeroShotOptions]:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path, HEAD_NOT_AVAILABLE or HEAD_NOT_SUITABLE."""
    entailment = _entailment(model.description)
    truncation = parse_task_truncation(options.truncation, model.description, f"{path}.truncation", "only_first")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    template = options.hypothesis_template or DEFAULT_TEMPLATE
    if template.count(_PLACE) != 1:
        about = "it must have {} once, where the label goes"
        raise invalid(f"{path}.hypothesis_template", about, "INVALID_TEMPLATE")
    if not options.labels:
        raise invalid(f"{path}.labels", "the list is empty", "INVALID_EMPTY_LIST")
    if len(options.labels) > (most := model.limits.max_texts):
        raise too_large(f"{path}.labels", f"{len(options.labels)} labels; the limit is {most}")
    refuse_texts(options.labels, f"{path}.labels", "INVALID_LABEL")
    effective = tasks_pb2.ZeroShotOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        labels=options.labels,
        hypothesis_template=template,
        multi_label=options.multi_label or len(options.labels) == 1,
    )
    task = ClassifyZeroShot(
        model,
        OutputOptions(("label_scores",), head=HeadOptions("sequence_classification", "none")),
        priority,
        TokenizeOptions(truncation),
        tuple(template.replace(_PLACE, label) for label in options.labels),
        entailment,
        options.multi_label,
        rows_per_item=len(options.labels),
    )
    return Asked(task, effective)


def _entailment(description: ModelDescription) -> int:
    """Return the number of the label that means entailment. Raises HEAD_NOT_AVAILABLE or HEAD_NOT_SUITABLE."""
    require_head(description, "sequence_classification")
    number = entailment_label(description)
    if number is None:
        labels = ", ".join(description.labels)
        raise not_suitable(f"zero-shot needs a label that begins with entail, and another one; there: {labels}")
    return number
