"""Splits texts into words, and puts the caller's labels before them, as GLiNER's models were trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import invalid
from bertstream.server.core.tasks.base import HeadModel
from bertstream.server.core.tasks.entities_words import first_of_runs, within_runs
from bertstream.server.core.tokenization import Side, Texts, Tokenized, TokenizeOptions, Truncation, Words, ragged
from bertstream.workers.contract import Batch, Spans
from bertstream.workers.programs.description import EntityDescription

Ints = NDArray[np.int64]
_WORD = re.compile(r"\w+(?:[-_]\w+)*|\S")


@dataclass(frozen=True, slots=True)
class SplitTexts:
    """The words of n texts, end to end: W in all."""

    texts: Sequence[str]  # [n] what the bounds count in: as sent, or a list of words joined by spaces
    words: Sequence[str]  # [W]
    counts: Ints  # [n]
    starts: Ints  # [W], in code points
    ends: Ints  # [W], exclusive

    def within(self, most: int, side: Side) -> tuple[Words, Ints]:
        """Return at most so many words of each text, and the index of the first of them: [n]."""
        kept = np.minimum(self.counts, most)
        skipped = self.counts - kept if side == "left" else np.zeros_like(kept)
        firsts: Ints = ragged.first_indexes(self.counts) + skipped
        if (kept == self.counts).all():
            return Words(self.words, kept.astype(np.int32)), firsts
        words = [self.words[i] for i in ragged.slice_indexes(firsts, kept).tolist()]
        return Words(words, kept.astype(np.int32)), firsts


def split(inputs: Texts | Words) -> SplitTexts:
    """Return the words of texts, and other characters one by one; lists of words stay as they are."""
    if isinstance(inputs, Words):
        ends = np.cumsum(inputs.counts, dtype=np.int64).tolist()
        lists = [list(inputs.words[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
        sizes = [np.fromiter(map(len, words), np.int64, len(words)) for words in lists]
        starts = [ragged.first_indexes(each + 1) for each in sizes]
        bounds = np.concatenate([np.zeros((0, 2), np.int64), *map(_bounds, starts, sizes)])
        texts: Sequence[str] = [" ".join(words) for words in lists]
        return SplitTexts(texts, inputs.words, inputs.counts.astype(np.int64), bounds[:, 0], bounds[:, 1])
    found = [list(_WORD.finditer(text)) for text in inputs.texts]
    flat = [match for each in found for match in each]
    counts = np.fromiter(map(len, found), np.int64, len(found))
    bounds = np.array([match.span() for match in flat], np.int64).reshape(-1, 2)
    return SplitTexts(inputs.texts, [match.group() for match in flat], counts, bounds[:, 0], bounds[:, 1])


def _bounds(starts: Ints, sizes: Ints) -> Ints:
    return np.stack([starts, starts + sizes], axis=1)


@dataclass(frozen=True, slots=True)
class FoundWords:
    """The K words that rows have whole, row by row."""

    counts: Ints  # [r]
    places: Ints  # [K]: the first token of each in its row
    words: Ints  # [K]: its index among the words of its text


def whole_words(tokens: Tokenized, word_counts: NDArray[np.int32]) -> FoundWords:
    """Find the words of rows, without those that the edge of a window cuts; the columns have word ids."""
    assert tokens.word_ids is not None
    at = np.flatnonzero(tokens.word_ids >= 0)
    rows, words = ragged.owners(tokens.lengths)[at], tokens.word_ids[at].astype(np.int64)
    keys = ragged.first_indexes(word_counts)[tokens.text_indexes[rows]] + words  # one for each word of each text
    begins = np.flatnonzero(first_of_runs(keys) | first_of_runs(rows))
    if tokens.skipped is not None and begins.size:
        indexes = within_runs(rows) + tokens.skipped[0, rows]
        total = int(word_counts.sum())
        firsts, lasts = np.full(total, np.iinfo(np.int64).max), np.full(total, -1)
        np.minimum.at(firsts, keys, indexes)
        np.maximum.at(lasts, keys, indexes)
        ends = np.append(begins[1:], at.size) - 1
        is_whole = (indexes[begins] == firsts[keys[begins]]) & (indexes[ends] == lasts[keys[begins]])
        begins = begins[is_whole]
    counts = np.bincount(rows[begins], minlength=tokens.lengths.size)
    places = at[begins] - ragged.first_indexes(tokens.lengths)[rows[begins]]
    return FoundWords(counts, places, words[begins])


@dataclass(frozen=True, slots=True)
class LabelPrompt:
    """What stands before a text: the caller's C labels, as P tokens."""

    ids: NDArray[np.int32]  # [P]
    places: Ints  # [C]: the token whose state is the label's

    def before(self, tokens: Tokenized, found: FoundWords, leading: int) -> Batch:
        """Return rows with the prompt after their first `leading` tokens, and the spans of labels and words."""
        rows, size = tokens.lengths.size, self.ids.size
        at = np.repeat(ragged.first_indexes(tokens.lengths) + leading, size)
        ids = np.insert(tokens.ids, at, np.tile(self.ids, rows))
        type_ids = None if tokens.type_ids is None else np.insert(tokens.type_ids, at, 0)
        before = np.repeat(ragged.first_indexes(found.counts), self.places.size)
        starts = np.insert(found.places + size, before, np.tile(self.places + leading, rows)).astype(np.int32)
        spans = Spans((found.counts + self.places.size).astype(np.int32), starts, np.ones_like(starts))
        return Batch(ids, tokens.lengths + np.int32(size), type_ids, spans)


def label_prompt(model: HeadModel, labels: Sequence[str], own: EntityDescription, most: int, path: str) -> LabelPrompt:
    """Return the tokens of the labels, each after its mark, and of the mark before the text.

    Raises INVALID_ARGUMENT, at the path of the labels, where there are more than `most`, or they cannot be spelled.
    """
    words = [part for label in labels for part in (own.label_token, label)] + [own.text_token]
    options = TokenizeOptions(
        Truncation("refuse", max(most, 1)), add_special_tokens=False, columns=frozenset({"word_ids"})
    )
    found = model.tokenizer.tokenize(Words(words, np.array([len(words)], np.int32)), options)
    for error in found.errors.values():
        long = f"with their marks they have more than {most} tokens, which leaves no room for a text"
        raise invalid(path, long if error.reason == "INVALID_TEXT_LENGTH" else error.message, error.reason)
    assert found.word_ids is not None
    marks = np.flatnonzero((found.word_ids % 2 == 0) & (found.word_ids < 2 * len(labels)))
    return LabelPrompt(found.ids, marks + 1 if own.reads_name else marks)


def shortened(truncation: Truncation, tokens: int) -> Truncation:
    """Return the same for texts that have so many tokens fewer to themselves."""
    return replace(truncation, max_length=truncation.max_length - tokens)
