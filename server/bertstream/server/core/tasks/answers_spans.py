"""Turns spans of tokens in windows into answers, which are parts of a context.

The rules are those of the question answering pipeline that transformers had up to version 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.tokenization import Tokenized, ragged
from bertstream.workers.contract import Spans

Int32 = NDArray[np.int32]


class Answer(NamedTuple):
    """A part of a context; an empty one at its start says that it has no answer."""

    text: str
    score: float
    start: int  # in code points
    end: int  # exclusive


def context_spans(tokens: Tokenized) -> Spans:
    """Return the span of the tokens of each row's second text, of length 0 where it has none."""
    assert tokens.sequence_ids is not None
    at = np.flatnonzero(tokens.sequence_ids == 1)
    rows, firsts, lengths = np.unique(ragged.owners(tokens.lengths)[at], return_index=True, return_counts=True)
    spans = Spans(*(np.zeros(tokens.lengths.size, np.int32) for _ in range(3)))
    spans.counts[:] = 1
    spans.starts[rows] = at[firsts] - ragged.first_indexes(tokens.lengths)[rows]
    spans.lengths[rows] = lengths
    return spans


def token_bounds(tokens: Tokenized, whole_words: bool) -> tuple[Int32, Int32]:
    """Return where an answer starts that begins with each token, and ends that ends with it, in code points: [T], [T].

    `whole_words` extends answers to the other tokens of a word, as far as they are in the same row.
    """
    assert tokens.starts is not None
    assert tokens.ends is not None
    if not whole_words or not tokens.ids.size:
        return tokens.starts, tokens.ends
    begins = _word_begins(tokens)
    firsts = np.flatnonzero(begins)
    word = np.cumsum(begins) - 1
    lasts = np.append(firsts[1:], tokens.ids.size) - 1
    return tokens.starts[firsts[word]], tokens.ends[lasts[word]]


def _word_begins(tokens: Tokenized) -> NDArray[np.bool_]:
    """Return whether each token begins a word, or is of no word: [T]."""
    assert tokens.word_ids is not None
    assert tokens.sequence_ids is not None
    begins = tokens.word_ids < 0
    begins[1:] |= (tokens.word_ids[1:] != tokens.word_ids[:-1]) | (tokens.sequence_ids[1:] != tokens.sequence_ids[:-1])
    begins[ragged.first_indexes(tokens.lengths)] = True
    return begins


def best_answers(
    context: str, candidates: Iterable[tuple[int, int, float]], no_answer: float | None, top_k: int
) -> list[Answer]:
    """Return the best of the candidates (start, end, score) of all windows.

    `no_answer` is the score of there being no answer, or None where that is not allowed.

    Answers that are equal but for upper and lower case are merged into the first of them, with the sum of their scores
    (which may thus be above 1).
    """
    answers: dict[str, Answer] = {}
    for start, end, score in candidates:
        text = context[start:end]
        key = text.lower()
        known = answers.get(key)
        answers[key] = Answer(text, score, start, end) if known is None else known._replace(score=known.score + score)
    listed = list(answers.values())
    if no_answer is not None:
        listed.append(Answer("", no_answer, 0, 0))
    return sorted(listed, key=lambda answer: answer.score, reverse=True)[:top_k]
