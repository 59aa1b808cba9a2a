"""Parses the options of ScoreTexts."""

from __future__ import annotations

from bertstream.server.core.tasks.base import HeadModel
from bertstream.server.core.tasks.likelihoods import ScoreTexts
from bertstream.server.core.tokenization import TokenizeOptions
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_priority,
    parse_task_truncation,
    require_mask,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import HeadOptions, OutputOptions


def parse_score_text(
    options: tasks_pb2.ScoreTextOptions, model: HeadModel, default_priority: int, path: str
) -> Asked[ScoreTexts, tasks_pb2.ScoreTextOptions]:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path, HEAD_NOT_AVAILABLE or HEAD_NOT_SUITABLE."""
    mask, mask_id = require_mask(model.description)
    truncation = parse_task_truncation(options.truncation, model.description, f"{path}.truncation")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    effective = tasks_pb2.ScoreTextOptions(
        model=model.name, truncation=effective_truncation(truncation), priority=effective_priority(priority)
    )
    output_options = OutputOptions(("token_log_probabilities",), head=HeadOptions("fill_mask"))
    tokenize_options = TokenizeOptions(truncation, columns=frozenset({"special_tokens_mask"}))
    return Asked(ScoreTexts(model, output_options, priority, tokenize_options, mask, mask_id), effective)
