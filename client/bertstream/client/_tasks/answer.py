"""The task "answer": answers to questions, found in their contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Required, TypedDict

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._columns import check, joined, split
from bertstream.client._fields import optional_whole, set_fields
from bertstream.client._tasks.items import WINDOWS, preparing
from bertstream.client._tasks.options import offset_unit_of, priority_of
from bertstream.client._tasks.task import Task
from bertstream.client._texts import Group
from bertstream.client._types import OffsetUnit, Priority
from bertstream.v1 import tasks_pb2 as tasks
from bertstream.v1 import types_pb2 as types


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question."""

    text: str
    """The part of the context that is the answer; empty for "no answer"."""
    score: float
    start: int
    """Where it starts in the context that was sent."""
    end: int
    """Where it ends there, exclusive."""


class AnswerOptions(TypedDict, total=False):
    """Keyword arguments of `answer`. If one is left out or None, the server's default applies."""

    model: str
    """The model's name; empty for the default model."""
    max_length: int | None
    """The most tokens of a window: question, context and special tokens; None for 384, or the model's
    default_max_length if that is less."""
    stride: int | None
    """The tokens that two neighbouring windows of a long context share; None for 128, or half a window."""
    max_answer_tokens: int | None
    """The most tokens of an answer; None for 15."""
    allow_no_answer: bool
    """Whether "no answer", an empty text at 0 to 0, may be an answer."""
    allow_partial_words: bool
    """Whether an answer may begin and end within a word."""
    offset_unit: OffsetUnit | None
    """What `start` and `end` count: code_points (the default, as Python strings do), utf16_units or utf8_bytes."""
    priority: Priority | None
    """interactive (the default, except for bulk streams) or bulk."""


class AnswerCall(CallOptions, AnswerOptions, total=False):
    """Keyword arguments of `answer`, for type checkers."""


class AnswerStream(StreamOptions, AnswerOptions, total=False):
    """Keyword arguments of a stream of "answer" with one answer per question."""


class AnswersStream(AnswerStream):
    """Keyword arguments of a stream of "answer" with several answers per question."""

    top_k: Required[int]


def answer_task(
    *,
    model: str = "",
    max_length: int | None = None,
    stride: int | None = None,
    top_k: int | None = None,
    max_answer_tokens: int | None = None,
    allow_no_answer: bool = False,
    allow_partial_words: bool = False,
    offset_unit: OffsetUnit | None = None,
    priority: Priority | None = None,
) -> Task[Any]:
    """Return the task for AnswerOptions, which gives a list of the best `top_k` answers or, for None, the best one.

    Raises ValueError or TypeError for unusable values.
    """
    options = set_fields(
        tasks.AnswerOptions(priority=priority_of(priority), offset_unit=offset_unit_of(offset_unit)),
        model=model,
        max_length=optional_whole(max_length, "max_length", 1),
        stride=optional_whole(stride, "stride", 0),
        top_k=optional_whole(top_k, "top_k", 1),
        max_answer_tokens=optional_whole(max_answer_tokens, "max_answer_tokens", 1),
        allow_no_answer=allow_no_answer,
        allow_partial_words=allow_partial_words,
    )
    return Task(
        options,
        tasks.AnswerQuestionsRequest,
        tasks.Answers,
        preparing("answer", ("pairs",), WINDOWS),
        best_answers_of if top_k is None else answers_of,
        inputs=_pairs,
    )


def answers_of(message: tasks.Answers, items: int) -> list[list[Answer]]:
    """Return the answers to each question."""
    check(message.answer_counts, items, "answer_counts")
    found = joined(Answer, message.texts, message.scores, message.starts, message.ends)
    return split(found, message.answer_counts)


def best_answers_of(message: tasks.Answers, items: int) -> list[Answer]:
    """Return the best answer to each question; an empty one with a score of 0 if the server found none."""
    return [answers[0] if answers else Answer("", 0.0, 0, 0) for answers in answers_of(message, items)]


def _pairs(group: Group) -> types.TextPairs:
    return group.batch().pairs
