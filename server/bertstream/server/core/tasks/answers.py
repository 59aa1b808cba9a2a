"""AnswerQuestions: the parts of a context that answer a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, invalid
from bertstream.server.core.tasks.answers_spans import Answer, Int32, best_answers, context_spans, token_bounds
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task, pick
from bertstream.server.core.tasks.sent import Sent
from bertstream.server.core.tasks.texts import TaskTexts, parse_texts, tokenize
from bertstream.server.core.tokenization import Column, OffsetUnit, Pairs, TokenizeOptions, ragged
from bertstream.server.core.tokenization.offsets import convert_offsets
from bertstream.server.protocols.bertstream_v1.validation.names import OFFSET_UNITS, name_of, value_of
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_count,
    parse_priority,
    require_head,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import parse_truncation
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import Batch, HeadWish, Wishes

MAX_TOP_K = 1000
_MAX_LENGTH, _STRIDE, _ANSWER_TOKENS = 384, 128, 15


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """Where the tokens of r windows lie in their contexts: T tokens end to end."""

    contexts: Sequence[str]  # by item
    firsts: NDArray[np.int64]  # [r]: each window's first token
    starts: Int32  # [T]: where an answer starts that begins with this token, in code points
    ends: Int32  # [T]


@dataclass(frozen=True)
class AnswerQuestions(Task[AnswerContext]):
    """Finds answers."""

    effective: tasks_pb2.AnswerOptions
    tokenize: TokenizeOptions
    offset_unit: OffsetUnit

    def prepare(self, sent: Sent) -> Rows[AnswerContext]:
        inputs = parse_texts(self.model, sent, ("pairs",))
        assert isinstance(inputs, Pairs)
        found = tokenize(self.model, inputs, self.tokenize, sent)
        found = found.without(self._unanswerable(found, inputs, sent))
        starts, ends = token_bounds(found.tokens, not self.effective.allow_partial_words)
        made = found.batch
        return Rows(
            Batch(made.ids, made.lengths, made.type_ids, context_spans(found.tokens)),
            found.tokens.text_indexes,
            self._clearer(found.failed, sent),
            found.tokens.truncated,
            AnswerContext(inputs.seconds, ragged.first_indexes(found.tokens.lengths), starts, ends),
        )

    def answer(self, rows: Rows[AnswerContext], share: Share) -> tasks_pb2.Answers:
        firsts, lasts = (
            share.tensors[f"answer_spans.{name}"].astype(np.int64) for name in ("starts", "ends")
        )  # [q, k]
        row, place = np.nonzero(firsts >= 0)  # [c] candidates, window by window
        in_row = rows.context.firsts[share.rows[row]]
        starts = rows.context.starts[in_row + firsts[row, place]].tolist()
        ends = rows.context.ends[in_row + lasts[row, place]].tolist()
        scores = share.tensors["answer_spans.scores"][row, place].tolist()
        first_rows = ragged.first_indexes(share.row_counts)
        bounds = np.searchsorted(row, np.append(first_rows, share.rows.size)).tolist()
        none: list[float | None] = [None] * share.items.size
        if self.effective.allow_no_answer:
            none = np.minimum.reduceat(share.tensors["answer_spans.none"], first_rows).tolist()
        contexts = pick(rows.context.contexts, share.items)
        listed = [
            best_answers(
                contexts[item], zip(starts[a:b], ends[a:b], scores[a:b], strict=True), none[item], self.effective.top_k
            )
            for item, (a, b) in enumerate(pairwise(bounds))
        ]
        return _message(listed, contexts, self.offset_unit)

    def _unanswerable(self, found: TaskTexts, inputs: Pairs, sent: Sent) -> dict[int, RequestError]:
        """The errors of pairs without a question or without a context."""
        failed = {
            index: invalid(sent.at(index), "the question is empty", "INVALID_EMPTY_TEXT")
            for index, question in enumerate(inputs.firsts)
            if not question
        }
        empty = context_spans(found.tokens).lengths == 0
        for index in found.tokens.text_indexes[empty].tolist():
            failed[index] = invalid(sent.at(index), "the context has no tokens", "INVALID_EMPTY_TEXT")
        return failed

    def _clearer(self, failed: Mapping[int, RequestError], sent: Sent) -> dict[int, RequestError]:
        """The same errors, but that a pair is too long only where its question is, or the special tokens alone are."""
        long = f"the question leaves no room for its context in {self.effective.max_length} tokens"
        about = f"{long} (see {sent.options}.max_length)"
        too_long = ("INVALID_TEXT_LENGTH", "INVALID_TRUNCATION")
        return {
            index: invalid(sent.at(index), about, error.reason) if error.reason in too_long else error
            for index, error in failed.items()
        }


def _message(answers: Sequence[Sequence[Answer]], contexts: Sequence[str], unit: OffsetUnit) -> tasks_pb2.Answers:
    counts = [len(each) for each in answers]
    flat = [answer for each in answers for answer in each]
    bounds = np.array([(answer.start, answer.end) for answer in flat], np.int32).reshape(-1, 2)
    offsets = convert_offsets(bounds, ragged.owners(np.array(counts, np.int64)), contexts, unit)
    return tasks_pb2.Answers(
        answer_counts=counts,
        texts=[answer.text for answer in flat],
        scores=[answer.score for answer in flat],
        starts=offsets[:, 0].tolist(),
        ends=offsets[:, 1].tolist(),
    )


def parse_answer_questions(
    options: tasks_pb2.AnswerOptions, model: HeadModel, default_priority: int, path: str = "options"
) -> AnswerQuestions:
    """Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE."""
    its = model.description
    require_head(its, "question_answering")
    length = types_pb2.TruncationOptions(max_length=options.max_length or min(_MAX_LENGTH, its.default_max_length))
    truncation = replace(parse_truncation(length, its, path), strategy="only_second")
    max_length, priority = truncation.max_length, parse_priority(options.priority, default_priority, f"{path}.priority")
    unit = name_of(OFFSET_UNITS, options.offset_unit, f"{path}.offset_unit")
    effective = tasks_pb2.AnswerOptions(
        model=model.name,
        max_length=max_length,
        priority=effective_priority(priority),
        stride=parse_count(options.stride, min(_STRIDE, max_length // 2), max_length - 1, f"{path}.stride"),
        top_k=parse_count(options.top_k, 1, MAX_TOP_K, f"{path}.top_k"),
        max_answer_tokens=parse_count(
            options.max_answer_tokens, _ANSWER_TOKENS, its.max_tokens, f"{path}.max_answer_tokens"
        ),
        allow_no_answer=options.allow_no_answer,
        allow_partial_words=options.allow_partial_words,
        offset_unit=value_of(OFFSET_UNITS, unit),
    )
    # Answers that begin and end in the same words become one, so more candidates are needed than answers.
    candidates = effective.top_k if options.allow_partial_words else 2 * effective.top_k + 10
    head = HeadWish("question_answering", top_k=candidates, max_answer_tokens=effective.max_answer_tokens)
    columns: frozenset[Column] = frozenset({"offsets", "word_ids"})
    return AnswerQuestions(
        model,
        Wishes(("answer_spans",), head=head),
        priority,
        effective,
        TokenizeOptions(truncation, windows=True, stride=effective.stride, columns=columns),
        unit,
    )
