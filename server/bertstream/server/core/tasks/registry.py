"""All tasks, by their field in PredictionOptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from bertstream.server.core.errors import invalid
from bertstream.server.core.tasks.answers import parse_answer_questions
from bertstream.server.core.tasks.base import HeadModel, Parse, Task
from bertstream.server.core.tasks.choices import parse_choose
from bertstream.server.core.tasks.entities import parse_classify_tokens
from bertstream.server.core.tasks.labels import parse_classify, parse_rerank
from bertstream.server.core.tasks.likelihoods import parse_score_text
from bertstream.server.core.tasks.masks import parse_fill_mask
from bertstream.server.core.tasks.sentences import parse_next_sentence
from bertstream.server.core.tasks.zero_shot import parse_zero_shot
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
) -> Task[Any]:
    """The task with its options. Raises RequestError."""
    return TASKS[name](options, model, default_priority, path)


def task_of(options: tasks_pb2.PredictionOptions) -> str:
    """Which task a stream is for. Raises INVALID_TASK where that is not said."""
    name = options.WhichOneof("task")
    if name is None:
        raise invalid("options", f"say which task by setting one of {', '.join(TASKS)}", "INVALID_TASK")
    return name


def put(message: Message, answer: Message) -> None:
    """Sets the one field of a response that is for answers of this type."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.full_name == answer.DESCRIPTOR.full_name:
            getattr(message, field.name).CopyFrom(answer)
            return
    raise TypeError(f"{message.DESCRIPTOR.full_name} has no place for {answer.DESCRIPTOR.full_name}")
