"""Apply transformers' logits processors to all sequences of a step at once, each with its own options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertstream.workers.contract import GenerationOptions

Tokens = NDArray[np.int32]
_NONE = np.empty(0, np.int32)


class History(Protocol):
    """Hold what the processors look at."""

    @property
    def tokens(self) -> Tokens:
        """Return the tokens [n], a prompt or the decoder's start token first."""

    @property
    def count(self) -> int:
        """Return how many of the tokens are new."""

    rules: Rules


class Rules:
    """Apply the options of one Generate that restrict how its sequences go on."""

    def __init__(self, options: GenerationOptions, vocabulary_size: int) -> None:
        self.penalty = options.repetition_penalty
        self._vocabulary_size = vocabulary_size
        self._ngram = options.no_repeat_ngram_size
        self._min_new = options.min_new_tokens
        self._ends = frozenset(options.eos_token_ids)
        self._end_ids = self._known(options.eos_token_ids)
        words = {word for word in options.bad_words if word}
        # A banned word that is a single end-of-sequence token is ignored, as in transformers.
        self._bad = self._known([word[0] for word in words if len(word) == 1 and word[0] not in self._ends])
        self._bad_words = [np.array(word, np.int32) for word in words if len(word) > 1]

    def ends(self, token: int) -> bool:
        """Return whether this token ends a sequence."""
        return token in self._ends

    def banned(self, tokens: Tokens, count: int) -> Tokens:
        """Return the ids that must not follow these tokens, `count` of which are new; an id may occur twice."""
        parts = [self._bad] if self._bad.size else []
        if count < self._min_new:
            parts.append(self._end_ids)
        if self._ngram:
            parts.append(self._known(repeating(tokens, self._ngram)))
        parts += [self._known(word[-1:]) for word in self._bad_words if _all_but_last(word, tokens)]
        return np.concatenate(parts) if parts else _NONE

    def _known(self, ids: Sequence[int] | Tokens) -> Tokens:
        """Return those ids that the decoder's vocabulary has."""
        known = np.array(ids, np.int32)
        return known[known < self._vocabulary_size]


def _all_but_last(word: Tokens, tokens: Tokens) -> bool:
    """Return whether the last tokens are a word without its last token."""
    begun = word.size - 1
    return begun <= tokens.size and np.array_equal(tokens[tokens.size - begun :], word[:-1])


def repeating(tokens: Tokens, size: int) -> Tokens:
    """Return the ids that would make the last `size` tokens a run that occurs already.

    tokens: [n].
    """
    windows = tokens.size - size + 1
    if windows <= 0:
        return _NONE
    same = np.ones(windows, np.bool_)
    for place in range(size - 1):
        same &= tokens[place : place + windows] == tokens[windows + place]
    return tokens[size - 1 :][same]


def process(logits: Tensor, sequences: Sequence[History]) -> Tensor:
    """Return the logits from which the next tokens are chosen.

    logits: [B, V] float32, a row for each sequence -> [B, V]. The argument is not changed, and is returned itself where
    no rule applies.
    """
    bans = _Places.of([each.rules.banned(each.tokens, each.count) for each in sequences])
    seen = _Places.of([each.tokens if each.rules.penalty != 1 else _NONE for each in sequences])
    if not bans and not seen:
        return logits
    scores = logits.clone()
    if seen:
        penalties = np.repeat(np.array([each.rules.penalty for each in sequences], np.float32), seen.counts)
        _penalise(scores, *seen.on(scores.device), torch.from_numpy(penalties).to(scores.device))
    if bans:
        scores[bans.on(scores.device)] = -torch.inf
    return scores


def _penalise(scores: Tensor, rows: Tensor, ids: Tensor, penalties: Tensor) -> None:
    """Apply the repetition penalty (Keskar et al. 2019), once to an id that is named twice.

    A penalty near 0 makes nothing infinite, which would leave no probabilities to draw by.
    """
    seen = scores[rows, ids]
    most = torch.finfo(scores.dtype).max
    scores[rows, ids] = torch.where(seen < 0, seen * penalties, seen / penalties).clamp(max=most)


class _Places:
    """Name entries of a [B, V] matrix."""

    def __init__(self, counts: NDArray[np.int64], ids: Tokens) -> None:
        self.counts = counts  # [B] number of ids in each row
        self._ids = ids  # [sum(counts)]

    @classmethod
    def of(cls, columns: Sequence[Tokens]) -> _Places:
        return cls(np.array([column.size for column in columns], np.int64), np.concatenate(columns))

    def __bool__(self) -> bool:
        return self._ids.size > 0

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the entries' rows and columns."""
        rows = np.repeat(np.arange(self.counts.size), self.counts)
        return torch.from_numpy(rows).to(device), torch.from_numpy(self._ids.astype(np.int64)).to(device)
