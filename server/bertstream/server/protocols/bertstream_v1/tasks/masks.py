"""Parses the options of FillMasks."""

from __future__ import annotations

from bertstream.server.core.tasks.base import HeadModel
from bertstream.server.core.tasks.masks import FillMasks, fill_masks
from bertstream.server.core.tasks.targets import find_targets
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_count,
    parse_priority,
    parse_task_truncation,
    require_mask,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.v1 import tasks_pb2

DEFAULT_TOP_K, MAX_TOP_K = 5, 1000


def parse_fill_mask(
    options: tasks_pb2.FillMaskOptions, model: HeadModel, default_priority: int, path: str
) -> Asked[FillMasks, tasks_pb2.FillMaskOptions]:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path, HEAD_NOT_AVAILABLE or HEAD_NOT_SUITABLE."""
    require_mask(model.description)
    truncation = parse_task_truncation(options.truncation, model.description, f"{path}.truncation")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    targets = find_targets(options.targets, options.target_ids, model, path)
    top_k = parse_count(options.top_k, DEFAULT_TOP_K, MAX_TOP_K, f"{path}.top_k")
    task = fill_masks(model, truncation, priority, top_k, targets=targets, sequences=not options.omit_sequences)
    effective = tasks_pb2.FillMaskOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        top_k=task.top_k,
        targets=options.targets,
        target_ids=options.target_ids,
        omit_sequences=options.omit_sequences,
    )
    return Asked(task, effective)
