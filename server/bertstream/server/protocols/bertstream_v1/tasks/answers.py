"""Parses the options of AnswerQuestions."""

from __future__ import annotations

from bertstream.server.core.tasks.answers import AnswerQuestions, answer_questions
from bertstream.server.core.tasks.base import HeadModel, require_head
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked
from bertstream.server.protocols.bertstream_v1.validation.names import OFFSET_UNITS
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_count,
    parse_priority,
    parse_stride,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import parse_truncation
from bertstream.server.protocols.enums import name_of, value_of
from bertstream.v1 import tasks_pb2, types_pb2

MAX_TOP_K = 1000
_MAX_LENGTH, _STRIDE, _ANSWER_TOKENS = 384, 128, 15


def parse_answer_questions(
    options: tasks_pb2.AnswerOptions, model: HeadModel, default_priority: int, path: str = "options"
) -> Asked[AnswerQuestions, tasks_pb2.AnswerOptions]:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE."""
    description = model.description
    require_head(description, "question_answering")
    length = types_pb2.TruncationOptions(
        max_length=options.max_length or min(_MAX_LENGTH, description.default_max_length)
    )
    truncation = parse_truncation(length, description, path)
    max_length, priority = truncation.max_length, parse_priority(options.priority, default_priority, f"{path}.priority")
    unit = name_of(OFFSET_UNITS, options.offset_unit, f"{path}.offset_unit")
    stride = options.stride if options.HasField("stride") else None
    effective = tasks_pb2.AnswerOptions(
        model=model.name,
        max_length=max_length,
        priority=effective_priority(priority),
        stride=parse_stride(stride, min(_STRIDE, max_length // 2), max_length - 1, f"{path}.stride"),
        top_k=parse_count(options.top_k, 1, MAX_TOP_K, f"{path}.top_k"),
        max_answer_tokens=parse_count(
            options.max_answer_tokens, _ANSWER_TOKENS, description.max_tokens, f"{path}.max_answer_tokens"
        ),
        allow_no_answer=options.allow_no_answer,
        allow_partial_words=options.allow_partial_words,
        offset_unit=value_of(OFFSET_UNITS, unit),
    )
    task = answer_questions(
        model,
        truncation,
        priority,
        stride=effective.stride,
        top_k=effective.top_k,
        max_answer_tokens=effective.max_answer_tokens,
        offset_unit=unit,
        allow_no_answer=options.allow_no_answer,
        allow_partial_words=options.allow_partial_words,
    )
    return Asked(task, effective)
