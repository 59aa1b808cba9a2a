"""Finds the tokens of texts that can have labels, and those among them that continue a word.

The rules are those of transformers' token classification pipeline, its heuristics included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.tokenization import Spelling, Tokenized, ragged

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RealTokens:
    """The K tokens of r rows, end to end, without special ones."""

    rows: Ints  # [K], ascending
    places: Ints  # [K]: the index in its row, which counts special tokens
    ids: NDArray[np.int32]  # [K]
    starts: Ints | None  # [K], in code points of the row's sentence; None for token ids
    ends: Ints | None  # [K], exclusive
    begins: NDArray[np.bool_]  # [K]: whether it begins a word, or a text
    indexes: Ints  # [K]: the index among the tokens of its text, as far as they were not cut off

    def at(self, indexes: Ints) -> RealTokens:
        """Return the tokens at these indexes, of the same rows."""
        return RealTokens(
            self.rows[indexes],
            self.places[indexes],
            self.ids[indexes],
            None if self.starts is None else self.starts[indexes],
            None if self.ends is None else self.ends[indexes],
            self.begins[indexes],
            self.indexes[indexes],
        )

    def of_rows(self, rows: Ints) -> RealTokens:
        """Return the tokens of these rows, which are numbered anew; rows: ascending."""
        firsts, lasts = np.searchsorted(self.rows, rows), np.searchsorted(self.rows, rows, side="right")
        found = self.at(ragged.slice_indexes(firsts, lasts - firsts))
        return replace(found, rows=ragged.owners(lasts - firsts))


class Sentences:
    """The texts that offsets count in: as sent, or a list of words joined by spaces."""

    def __init__(
        self, texts: Sequence[str], words: Sequence[str] = (), counts: NDArray[np.int32] | None = None
    ) -> None:
        """Take either whole texts, or no texts but words, end to end, and the number of words of each text."""
        if counts is not None:
            ends = np.cumsum(counts, dtype=np.int64).tolist()
            texts = [" ".join(words[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
        self.texts = texts
        self._first_words = None if counts is None else ragged.first_indexes(counts)
        self._word_starts = None if counts is None else _word_starts(words, counts)

    def shifts(self, texts: Ints, word_ids: NDArray[np.int32]) -> Ints | int:
        """Return where in its sentence each token's offsets count from, which is its word's start: [K], [K] -> [K]."""
        if self._first_words is None or self._word_starts is None or not self._word_starts.size:
            return 0
        words = self._first_words[texts] + np.maximum(word_ids, 0)
        starts: Ints = np.where(word_ids < 0, 0, self._word_starts[np.minimum(words, self._word_starts.size - 1)])
        return starts

    def have_space_at(self, texts: Ints, starts: Ints) -> NDArray[np.bool_]:
        """Return whether there is a space at, or right before, these characters of these texts: [K], [K] -> [K]."""
        characters = np.frombuffer("".join(f"{text}\n" for text in self.texts).encode("utf-32-le"), "<u4")
        lengths = np.fromiter(map(len, self.texts), np.int64, len(self.texts)) + 1
        at = ragged.first_indexes(lengths)[texts] + starts
        are_spaces: NDArray[np.bool_] = characters == ord(" ")
        found: NDArray[np.bool_] = are_spaces[at] | ((starts > 0) & are_spaces[at - 1])
        return found


def _word_starts(words: Sequence[str], counts: NDArray[np.int32]) -> Ints:
    """Return where each word starts in its text's words joined by spaces: [W]."""
    lengths = np.fromiter(map(len, words), np.int64, len(words)) + 1
    starts = ragged.first_indexes(lengths)
    first_of_texts = np.append(starts, 0)[ragged.first_indexes(counts)]  # a text of no words may stand at the end
    within: Ints = starts - np.repeat(first_of_texts, counts)
    return within


def real_tokens(
    tokens: Tokenized, sentences: Sentences | None, spelling: Spelling, unknown_id: int, by_words: bool
) -> RealTokens:
    """Leave out special tokens, and find where words begin (or, without `by_words`, take every token for a word).

    `tokens` has the mask of special tokens; unless they were sent as ids, offsets; and for words, word ids too.
    """
    assert tokens.special_tokens_mask is not None
    at = np.flatnonzero(~tokens.special_tokens_mask)
    rows = ragged.owners(tokens.lengths)[at]
    places = at - ragged.first_indexes(tokens.lengths)[rows]
    indexes = within_runs(rows) if tokens.skipped is None else within_runs(rows) + tokens.skipped[0, rows]
    begins = np.ones(at.size, np.bool_)
    if sentences is None or tokens.starts is None or tokens.ends is None:
        return RealTokens(rows, places, tokens.ids[at], None, None, begins, indexes)
    texts = tokens.text_indexes[rows].astype(np.int64)
    shifts = 0 if tokens.word_ids is None else sentences.shifts(texts, tokens.word_ids[at])
    starts, ends = tokens.starts[at].astype(np.int64) + shifts, tokens.ends[at].astype(np.int64) + shifts
    real = RealTokens(rows, places, tokens.ids[at], starts, ends, begins, indexes)
    if by_words:
        spaces = None if spelling.marks_continuations else sentences.have_space_at(texts, starts)
        continues = _continues(starts, ends, real.ids, spaces, spelling) & (real.ids != unknown_id)
        real.begins[:] = ~continues
    return real


def _continues(
    starts: Ints, ends: Ints, ids: NDArray[np.int32], spaces: NDArray[np.bool_] | None, spelling: Spelling
) -> NDArray[np.bool_]:
    """Return whether each token continues a word: [K].

    It does where its spelling is not as long as the text it stands for ("##ing" for "ing") or, in a vocabulary that
    marks no continuations, where there is no space at its start or before it.
    """
    longer: NDArray[np.bool_] = spelling.name_lengths[ids] != ends - starts
    return longer if spaces is None else (starts > 0) & ~spaces


def first_of_runs(numbers: Ints) -> NDArray[np.bool_]:
    """Return whether each number is the first of its run of equal ones: [n] -> [n]."""
    first = np.ones(numbers.size, np.bool_)
    first[1:] = numbers[1:] != numbers[:-1]
    return first


def within_runs(numbers: Ints) -> Ints:
    """Return the place of each number within its run of equal ones, from 0: [n] -> [n]."""
    firsts = np.flatnonzero(first_of_runs(numbers))
    within: Ints = np.arange(numbers.size) - np.repeat(firsts, np.diff(firsts, append=numbers.size))
    return within


@dataclass(frozen=True, slots=True)
class Speller:
    """Joins tokens to words."""

    spelling: Spelling
    unknown_id: int
    real: RealTokens
    texts: Sequence[str] | None  # by item; None for token ids

    def tokens(self, item: int, first: int, last: int) -> list[str]:
        """Return the spelling of these tokens or, where the vocabulary does not know it, their part of the text."""
        ids = self.real.ids[first:last]
        names = [self.spelling.names[id] for id in ids.tolist()]
        if self.texts is not None and self.real.starts is not None and self.real.ends is not None:
            for i in np.flatnonzero(ids == self.unknown_id).tolist():
                names[i] = self.texts[item][self.real.starts[first + i] : self.real.ends[first + i]]
        return names

    def text(self, item: int, first: int, last: int) -> str:
        """Return the text of these tokens, joined."""
        return self.spelling.join(self.tokens(item, first, last))
