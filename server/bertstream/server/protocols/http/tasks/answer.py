"""`POST /v1/answer`: the parts of contexts that answer questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.answers import Answers
from bertstream.server.protocols.bertstream_v1.tasks.answers import parse_answer_questions
from bertstream.server.protocols.http.common_options import MOST, OwnRequest, max_length_of
from bertstream.server.protocols.http.tasks.base import (
    Number,
    TaskRoute,
    Unit,
    by_counts,
    offset_unit_of,
    with_priority,
)
from bertstream.server.protocols.http.tasks.inputs import TextInputs, matched
from bertstream.server.protocols.http.tasks.models import QUESTION_ANSWERING
from bertstream.v1 import tasks_pb2


class AnswerRequest(OwnRequest, kw_only=True):
    """The body of `/v1/answer`; one context may be for several questions, or one question for several contexts."""

    question: TextInputs
    context: TextInputs
    stride: Annotated[int, Meta(ge=0, le=MOST)] | None = None
    top_k: Number | None = None
    max_answer_tokens: Number | None = None
    allow_no_answer: bool = False
    allow_partial_words: bool = False
    offset_unit: Unit = "code_points"


def _options(request: AnswerRequest) -> tasks_pb2.AnswerOptions:
    options = tasks_pb2.AnswerOptions(
        max_length=max_length_of(request) or 0,
        stride=request.stride,
        top_k=request.top_k or 0,
        max_answer_tokens=request.max_answer_tokens or 0,
        allow_no_answer=request.allow_no_answer,
        allow_partial_words=request.allow_partial_words,
        offset_unit=offset_unit_of(request.offset_unit),
    )
    return with_priority(options, request)


def _items(request: AnswerRequest, max_texts: int) -> SentItems:
    return matched(request.question, request.context, ("question", "context"), max_texts)


def _entries(request: AnswerRequest, answer: Answers) -> Sequence[Any]:
    """Return the best answer to each question, null where there is none, or with `top_k` a list, best first."""
    scores = np.array(answer.scores, np.float32)
    columns = zip(scores, answer.starts.tolist(), answer.ends.tolist(), answer.texts, strict=True)
    found = [{"score": score, "start": start, "end": end, "answer": text} for score, start, end, text in columns]
    listed = by_counts(found, answer.answer_counts)
    return listed if request.top_k is not None else [each[0] if each else None for each in listed]


ROUTE = TaskRoute(
    "/v1/answer",
    "Find the part of a context that answers a question.",
    AnswerRequest,
    QUESTION_ANSWERING,
    _options,
    parse_answer_questions,
    _items,
    _entries,
    example={"question": "Where does the cat sleep?", "context": "A cat sleeps on the warm roof."},
    answer={"score": 0.93, "start": 16, "end": 29, "answer": "the warm roof"},
)
