"""AnswerQuestions: the parts of a context that answer a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, invalid
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.answers_spans import Answer, Int32, best_answers, context_spans, token_bounds
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task, pick
from bertstream.server.core.tasks.texts import TaskTexts, tokenize
from bertstream.server.core.tokenization import Column, OffsetUnit, Pairs, TokenizeOptions, Truncation, ragged
from bertstream.server.core.tokenization.offsets import convert_offsets
from bertstream.workers.contract import Batch, HeadOptions, OutputOptions


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """Where the T tokens of r windows, end to end, lie in their contexts."""

    contexts: Sequence[str]  # by item
    firsts: NDArray[np.int64]  # [r]: each window's first token
    starts: Int32  # [T]: where an answer starts that begins with this token, in code points
    ends: Int32  # [T]


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to each pair, best first, pair by pair."""

    answer_counts: Sequence[int]  # of each pair
    texts: Sequence[str]
    scores: Sequence[float]
    starts: Int32  # in the unit asked for
    ends: Int32


@dataclass(frozen=True)
class AnswerQuestions(Task[AnswerContext]):
    """Finds the parts of a context that answer a question."""

    kinds = ("pairs",)

    tokenize: TokenizeOptions
    offset_unit: OffsetUnit
    max_length: int
    top_k: int
    allow_no_answer: bool
    allow_partial_words: bool

    def prepare(self, sent: SentItems) -> Rows[AnswerContext]:
        inputs = sent.inputs
        assert isinstance(inputs, Pairs)
        found = tokenize(self.model, inputs, self.tokenize, sent)
        found = found.without(self._unanswerable(found, inputs, sent))
        starts, ends = token_bounds(found.tokens, not self.allow_partial_words)
        made = found.batch
        return Rows(
            Batch(made.ids, made.lengths, made.type_ids, context_spans(found.tokens)),
            found.tokens.text_indexes,
            self._clearer(found.failed, sent),
            found.tokens.truncated,
            AnswerContext(inputs.seconds, ragged.first_indexes(found.tokens.lengths), starts, ends),
        )

    def answer(self, rows: Rows[AnswerContext], share: Share) -> Answers:
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
        if self.allow_no_answer:
            none = np.minimum.reduceat(share.tensors["answer_spans.none"], first_rows).tolist()
        contexts = pick(rows.context.contexts, share.items)
        listed = [
            best_answers(contexts[item], zip(starts[a:b], ends[a:b], scores[a:b], strict=True), none[item], self.top_k)
            for item, (a, b) in enumerate(pairwise(bounds))
        ]
        return _columns(listed, contexts, self.offset_unit)

    def _unanswerable(self, found: TaskTexts, inputs: Pairs, sent: SentItems) -> dict[int, RequestError]:
        """Return the errors of pairs with an empty question or a context without tokens."""
        failed = {
            index: invalid(sent.at(index, 0), "the question is empty", "INVALID_EMPTY_TEXT")
            for index, question in enumerate(inputs.firsts)
            if not question
        }
        empty = context_spans(found.tokens).lengths == 0
        for index in found.tokens.text_indexes[empty].tolist():
            failed[index] = invalid(sent.at(index, 1), "the context has no tokens", "INVALID_EMPTY_TEXT")
        return failed

    def _clearer(self, failed: Mapping[int, RequestError], sent: SentItems) -> dict[int, RequestError]:
        """Return the same errors, with clearer ones for pairs whose question leaves no room for a context."""
        long = f"the question leaves no room for its context in {self.max_length} tokens"
        about = f"{long} (see {sent.option('max_length')})"
        too_long = ("INVALID_TEXT_LENGTH", "INVALID_TRUNCATION")
        return {
            index: invalid(sent.at(index, 0), about, error.reason) if error.reason in too_long else error
            for index, error in failed.items()
        }


def answer_questions(
    model: HeadModel,
    truncation: Truncation,
    priority: int,
    *,
    stride: int,
    top_k: int,
    max_answer_tokens: int,
    offset_unit: OffsetUnit = "code_points",
    allow_no_answer: bool = False,
    allow_partial_words: bool = False,
) -> AnswerQuestions:
    """Return the task that gives the best `top_k` answers of each pair; the model has the head.

    truncation: its length is that of the windows into which a long context is cut, which share `stride` tokens.
    """
    # Answers that begin and end in the same words are merged, so more candidates are needed than answers.
    candidates = top_k if allow_partial_words else 2 * top_k + 10
    head = HeadOptions("question_answering", top_k=candidates, max_answer_tokens=max_answer_tokens)
    columns: frozenset[Column] = frozenset({"offsets", "word_ids"})
    return AnswerQuestions(
        model,
        OutputOptions(("answer_spans",), head=head),
        priority,
        TokenizeOptions(replace(truncation, strategy="only_second"), windows=True, stride=stride, columns=columns),
        offset_unit,
        truncation.max_length,
        top_k,
        allow_no_answer,
        allow_partial_words,
    )


def _columns(answers: Sequence[Sequence[Answer]], contexts: Sequence[str], unit: OffsetUnit) -> Answers:
    counts = [len(each) for each in answers]
    flat = [answer for each in answers for answer in each]
    bounds = np.array([(answer.start, answer.end) for answer in flat], np.int32).reshape(-1, 2)
    offsets = convert_offsets(bounds, ragged.owners(np.array(counts, np.int64)), contexts, unit)
    return Answers(
        answer_counts=counts,
        texts=[answer.text for answer in flat],
        scores=[answer.score for answer in flat],
        starts=offsets[:, 0],
        ends=offsets[:, 1],
    )
