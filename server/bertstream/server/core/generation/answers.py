"""The text of a worker's tokens: the answers to one input, whole or as they grow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bertstream.server.core.dispatch import NewTokens
from bertstream.server.core.generation.text import GrowingText, StopStrings
from bertstream.server.core.tokenization import Writing
from bertstream.workers.contract import Completed, FinishReason, GenerationOptions

AnswerEnd = FinishReason | Literal["stop_string"]


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """One whole answer."""

    text: str
    token_ids: Sequence[int]
    finish_reason: AnswerEnd
    score: float
    token_scores: Sequence[float] = ()  # one for each token, where they are asked for


@dataclass(frozen=True, slots=True)
class GeneratedPiece:
    """The part of an answer that came since its last piece."""

    sequence_index: int  # which answer, where there are several
    text: str
    token_ids: Sequence[int]
    token_scores: Sequence[float] = ()


def whole_answers(completed: Completed, writing: Writing, token_scores: bool) -> list[GeneratedText]:
    """Return the answers of a worker that did not stream them."""
    texts = []
    ends = np.cumsum(completed.lengths, dtype=np.int64)
    for i, reason in enumerate(completed.reasons):
        part = slice(int(ends[i] - completed.lengths[i]), int(ends[i]))
        ids = completed.tokens[part].tolist()
        writer = writing.writer()
        text = "".join([*map(writer.push, ids), writer.finish()])
        scores = completed.token_scores[part].tolist() if token_scores else ()
        texts.append(GeneratedText(text, ids, reason, float(completed.scores[i]), scores))
    return texts


class GrowingAnswers:
    """The answers to one input as their tokens come; it never holds more than the answers' own length."""

    def __init__(
        self, options: GenerationOptions, writing: Writing, stop_strings: Sequence[str], token_scores: bool
    ) -> None:
        self._options = options
        self._token_scores = token_scores
        stops = StopStrings(stop_strings)
        self._answers = [
            _Answer(GrowingText(writing.writer(), stops)) for _ in range(max(options.num_return_sequences, 1))
        ]

    @property
    def tokens(self) -> int:
        """The number of tokens that have come, of all answers."""
        return sum(len(answer.tokens) for answer in self._answers)

    def take(self, new: NewTokens) -> bool:
        """Take new tokens, and return whether any answer is still growing."""
        for sequence, token, score in zip(
            new.sequences.tolist(), new.tokens.tolist(), new.scores.tolist(), strict=True
        ):
            self._answers[sequence].add(token, score)
        # Where all answers end by themselves, the worker says so; only stop strings are found here.
        over = all(each.text.stopped or self._ended(each) for each in self._answers)
        return not (over and any(each.text.stopped for each in self._answers))

    def finish(self) -> None:
        """End all answers, since no more tokens come."""
        for answer in self._answers:
            answer.pending += answer.text.finish()

    def pieces(self) -> Iterator[GeneratedPiece]:
        """Yield one piece for each answer that has something new since the last call."""
        for index, answer in enumerate(self._answers):
            if answer.pending or answer.given < len(answer.tokens):
                yield answer.piece(index, self._token_scores)

    def whole(self) -> list[GeneratedText]:
        """Return all answers, once they are finished."""
        return [self._whole(each) for each in self._answers]

    def _whole(self, answer: _Answer) -> GeneratedText:
        reason: AnswerEnd = "end_of_sequence" if self._at_end(answer) else "length"
        return GeneratedText(
            text="".join([*answer.written, answer.pending]),
            token_ids=answer.tokens,
            finish_reason="stop_string" if answer.text.stopped else reason,
            score=float(np.sum(answer.scores, dtype=np.float32)),
            token_scores=answer.scores if self._token_scores else (),
        )

    def _at_end(self, answer: _Answer) -> bool:
        return bool(answer.tokens) and answer.tokens[-1] in self._options.eos_token_ids

    def _ended(self, answer: _Answer) -> bool:
        return self._at_end(answer) or len(answer.tokens) >= self._options.max_new_tokens


@dataclass(slots=True)
class _Answer:
    text: GrowingText
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    written: list[str] = field(default_factory=list)  # pieces that were given
    pending: str = ""  # text that is certain and was not given yet
    given: int = 0  # tokens

    def add(self, token: int, score: float) -> None:
        if self.text.stopped:
            return
        self.tokens.append(token)
        self.scores.append(score)
        self.pending += self.text.push(token)

    def piece(self, index: int, token_scores: bool) -> GeneratedPiece:
        scores = self.scores[self.given :] if token_scores else ()
        piece = GeneratedPiece(index, self.pending, self.tokens[self.given :], scores)
        self.written.append(self.pending)
        self.pending, self.given = "", len(self.tokens)
        return piece
