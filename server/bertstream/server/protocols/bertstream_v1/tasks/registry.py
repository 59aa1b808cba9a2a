"""All tasks, by their field in PredictionOptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from bertstream.server.core.errors import invalid
from bertstream.server.core.tasks.base import HeadModel
from bertstream.server.protocols.bertstream_v1.tasks.answers import parse_answer_questions
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked, Parse
from bertstream.server.protocols.bertstream_v1.tasks.choices import parse_choose
from bertstream.server.protocols.bertstream_v1.tasks.entities import parse_classify_tokens
from bertstream.server.protocols.bertstream_v1.tasks.labels import parse_classify, parse_next_sentence, parse_rerank
from bertstream.server.protocols.bertstream_v1.tasks.masks import parse_fill_mask, parse_score_text
from bertstream.server.protocols.bertstream_v1.tasks.zero_shot import parse_zero_shot
from bertstream.v1 import tasks_pb2

TASKS: Mapping[str, Parse] = {
    "fill_mask": parse_fill_mask,
    "score_text": parse_score_text,
    "next_sentence": parse_next_sentence,
    "classify_text": parse_classify,
    "zero_shot": parse_zero_shot,
    "rerank": parse_rerank,
    "classify_tokens": parse_classify_tokens,
    "answer": parse_answer_questions,
    "choose": parse_choose,
}


def parse_task(
    name: str, options: Message, model: HeadModel, default_priority: int, path: str = "options"
) -> Asked[Any, Any]:
    """The task with its options. Raises RequestError."""
    return TASKS[name](options, model, default_priority, path)


def task_of(options: tasks_pb2.PredictionOptions) -> str:
    """Which task a stream is for. Raises INVALID_TASK where that is not said."""
    name = options.WhichOneof("task")
    if name is None:
        raise invalid("options", f"say which task by setting one of {', '.join(TASKS)}", "INVALID_TASK")
    return name
