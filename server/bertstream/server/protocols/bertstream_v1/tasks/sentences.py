"""Parses the options of PredictNextSentences."""

from __future__ import annotations

from bertstream.server.core.tasks.base import HeadModel, require_head
from bertstream.server.core.tasks.sentences import PredictNextSentences
from bertstream.server.core.tokenization import TokenizeOptions
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_priority,
    parse_task_truncation,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import HeadOptions, OutputOptions


def parse_next_sentence(
    options: tasks_pb2.NextSentenceOptions, model: HeadModel, default_priority: int, path: str
) -> Asked[PredictNextSentences, tasks_pb2.NextSentenceOptions]:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE."""
    require_head(model.description, "next_sentence")
    truncation = parse_task_truncation(options.truncation, model.description, f"{path}.truncation")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    effective = tasks_pb2.NextSentenceOptions(
        model=model.name, truncation=effective_truncation(truncation), priority=effective_priority(priority)
    )
    output_options = OutputOptions(("label_scores",), head=HeadOptions("next_sentence", "softmax"))
    return Asked(PredictNextSentences(model, output_options, priority, TokenizeOptions(truncation)), effective)
