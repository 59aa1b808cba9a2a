"""Parses the options of ClassifyTexts and RerankTexts."""

from __future__ import annotations

from typing import TypeAlias

from bertstream.server.core.errors import invalid
from bertstream.server.core.kinds import for_kind
from bertstream.server.core.tasks import similarities
from bertstream.server.core.tasks.base import HeadModel, require_head
from bertstream.server.core.tasks.labels import (
    HEAD,
    ClassifyTexts,
    RerankTexts,
    classify_texts,
    own_function,
    rerank_function,
    rerank_texts,
)
from bertstream.server.core.tasks.similarities import RerankBySimilarity, rerank_by_similarity
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_function,
    effective_priority,
    parse_count,
    parse_function,
    parse_priority,
    parse_task_truncation,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.server.protocols.bertstream_v1.validation.windows import parse_windows, write_windows
from bertstream.v1 import tasks_pb2
from bertstream.workers.programs.description import ModelDescription

AskedRerank: TypeAlias = (
    Asked[RerankTexts, tasks_pb2.RerankOptions] | Asked[RerankBySimilarity, tasks_pb2.RerankOptions]
)
_MOST_LABELS = (1 << 31) - 1  # a number above that of the labels means all


def parse_classify(
    options: tasks_pb2.ClassifyTextOptions, model: HeadModel, default_priority: int, path: str
) -> Asked[ClassifyTexts, tasks_pb2.ClassifyTextOptions]:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE."""
    description = model.description
    require_head(description, HEAD)
    truncation = parse_task_truncation(options.truncation, description, f"{path}.truncation")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    function = parse_function(options.function, own_function(description.score_function), f"{path}.function")
    windows = parse_windows(options, truncation.max_length, path)
    labels = len(description.labels)
    top_k = min(parse_count(options.top_k, labels, _MOST_LABELS, f"{path}.top_k"), labels)
    effective = tasks_pb2.ClassifyTextOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        top_k=top_k,
        function=effective_function(function),
    )
    write_windows(windows, effective)
    return Asked(classify_texts(model, truncation, priority, function, top_k, windows), effective)


def parse_rerank(options: tasks_pb2.RerankOptions, model: HeadModel, default_priority: int, path: str) -> AskedRerank:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE."""
    description = model.description
    if HEAD not in description.heads and similarities.HEAD in description.heads:
        return _parse_by_similarity(options, model, default_priority, path)
    require_head(description, HEAD)
    truncation = parse_task_truncation(options.truncation, description, f"{path}.truncation", "only_second")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    windows = parse_windows(options, truncation.max_length, path, "max")
    label = _label(options.label, description, path)
    function = parse_function(options.function, rerank_function(description), f"{path}.function")
    effective = tasks_pb2.RerankOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        function=effective_function(function),
        label=description.labels[label],
        top_k=parse_count(options.top_k, 0, _MOST_LABELS, f"{path}.top_k"),
    )
    write_windows(windows, effective)
    return Asked(rerank_texts(model, truncation, priority, function, label, windows), effective)


def _parse_by_similarity(
    options: tasks_pb2.RerankOptions, model: HeadModel, default_priority: int, path: str
) -> Asked[RerankBySimilarity, tasks_pb2.RerankOptions]:
    """Parse the options for a model of late interaction, whose scores are sums of similarities and have no labels."""
    if options.label:
        raise invalid(f"{path}.label", "scores of late interaction have no labels", "INVALID_LABEL")
    if options.windows:
        about = "late interaction compares every token anyway; send the windows as documents of their own"
        raise invalid(f"{path}.windows", about, "INVALID_COMBINATION")
    if parse_function(options.function, "none", f"{path}.function") != "none":
        raise invalid(f"{path}.function", "scores of late interaction are as they are: NONE", "INVALID_COMBINATION")
    documents = for_kind(model.description, "document")
    truncation = parse_task_truncation(options.truncation, documents, f"{path}.truncation")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    effective = tasks_pb2.RerankOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        function=effective_function("none"),
        top_k=parse_count(options.top_k, 0, _MOST_LABELS, f"{path}.top_k"),
    )
    return Asked(rerank_by_similarity(model, truncation, priority), effective)


def parse_rerank_pairs(
    options: tasks_pb2.RerankOptions, model: HeadModel, default_priority: int, path: str
) -> AskedRerank:
    """Parse the options of a stream, each of whose pairs gets its score. Raises as parse_rerank does."""
    if options.top_k:
        raise invalid(f"{path}.top_k", "every pair of a stream gets its score", "INVALID_COMBINATION")
    return parse_rerank(options, model, default_priority, path)


def _label(name: str, description: ModelDescription, path: str) -> int:
    labels = ", ".join(description.labels)
    if not name:
        if len(description.labels) > 1:
            about = f"this checkpoint has several labels, so say whose score counts: {labels}"
            raise invalid(f"{path}.label", about, "INVALID_LABEL")
        return 0
    if name not in description.labels:
        raise invalid(f"{path}.label", f"no label has this name; there: {labels}", "INVALID_LABEL")
    return description.labels.index(name)
