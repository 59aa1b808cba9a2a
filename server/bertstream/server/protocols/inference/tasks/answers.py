"""Give the parts of contexts that answer questions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import invalid
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.answers import AnswerQuestions, Answers, answer_questions
from bertstream.server.core.tasks.calls import prepare_items
from bertstream.server.core.tokenization import Pairs, Truncation
from bertstream.server.protocols.inference.inputs import SECOND
from bertstream.server.protocols.inference.options import Options, offset_unit_of, priority_of
from bertstream.server.protocols.inference.tasks.base import (
    ADVICE,
    AskedTensors,
    InferTurn,
    Work,
    work_of,
)
from bertstream.server.protocols.inference.tensors import Array, Spec, Strings
from bertstream.workers.programs.description import ModelDescription

TEXTS, SCORES, STARTS, ENDS = "answers", "answer_scores", "answer_starts", "answer_ends"
_TOP_K, _MAX_LENGTH, _STRIDE, _ANSWER_TOKENS = 1000, 384, 128, 15


class Questions:
    """Give k answers to each question in `text`, from its context in `text_pair`, best first."""

    parameters = frozenset(
        {"max_length", "stride", "top_k", "max_answer_tokens", "allow_no_answer", "allow_partial_words", "offset_unit"}
    )

    def reads_pairs(self, description: ModelDescription) -> bool:
        """Return True."""
        return True

    def outputs(self, description: ModelDescription) -> Sequence[Spec]:
        """Return the answers, their scores, and where they are in the contexts."""
        if "question_answering" not in description.heads:
            return ()
        texts = Spec(TEXTS, "BYTES", (-1, -1))
        return (texts, Spec(SCORES, "FP32", (-1, -1)), *(Spec(name, "INT32", (-1, -1)) for name in (STARTS, ENDS)))

    def defaults(self, description: ModelDescription) -> Sequence[str]:
        """Return all of them."""
        return (TEXTS, SCORES, STARTS, ENDS)

    async def prepare(self, asked: AskedTensors, turn: InferTurn) -> Work:
        """Cut the contexts into windows."""
        model, sent = turn.model, asked.given.sent
        if not isinstance(sent.inputs, Pairs):
            raise invalid(SECOND, "it is missing: the context of each question", "INVALID_TENSOR")

        def begin() -> tuple[AnswerQuestions, SentItems]:
            return _task(asked.options, turn), sent

        prepared = await prepare_items(model, begin, ADVICE)
        top_k = asked.options.number("top_k", 1, _TOP_K) or 1
        return work_of(asked, turn, prepared, top_k, partial(_arrays, top_k))


def _task(options: Options, turn: InferTurn) -> AnswerQuestions:
    description = turn.model.description
    length = options.number("max_length", 1, description.max_tokens) or min(_MAX_LENGTH, description.default_max_length)
    stride = options.number("stride", 0, length - 1)
    return answer_questions(
        turn.model,
        Truncation("only_second", length),
        priority_of(options, turn.priority),
        stride=min(_STRIDE, length // 2) if stride is None else stride,
        top_k=options.number("top_k", 1, _TOP_K) or 1,
        max_answer_tokens=options.number("max_answer_tokens", 1, description.max_tokens) or _ANSWER_TOKENS,
        offset_unit=offset_unit_of(options),
        allow_no_answer=bool(options.flag("allow_no_answer")),
        allow_partial_words=bool(options.flag("allow_partial_words")),
    )


def _arrays(top_k: int, answer: Answers) -> dict[str, Array]:
    """Return k answers a question; those that there are not are empty, with a score of 0, from 0 to 0."""
    counts = np.array(answer.answer_counts)
    shape = (counts.size, top_k)
    there = (np.arange(top_k) < counts[:, None]).ravel()

    def filled(values: NDArray[np.generic] | Sequence[float], dtype: str) -> NDArray[np.generic]:
        made = np.zeros(there.size, dtype)
        made[there] = values
        return made.reshape(shape)

    texts = iter(answer.texts)
    return {
        TEXTS: Strings(shape, [next(texts) if is_there else "" for is_there in there.tolist()]),
        SCORES: filled(answer.scores, "<f4"),
        STARTS: filled(answer.starts, "<i4"),
        ENDS: filled(answer.ends, "<i4"),
    }
