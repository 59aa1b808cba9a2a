"""What may come next: transformers' logits processors, each sequence with its own options, all of a step at once."""

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
    """What the processors look at."""

    @property
    def tokens(self) -> Tokens:
        """[n], a prompt or the decoder's start token first."""

    @property
    def count(self) -> int:
        """How many of these are new."""

    rules: Rules


class Rules:
    """The options of one Generate that say what its sequences may go on with."""

    def __init__(self, options: GenerationOptions, vocabulary_size: int) -> None:
        self.penalty = options.repetition_penalty
        self._vocabulary_size = vocabulary_size
        self._ngram = options.no_repeat_ngram_size
        self._min_new = options.min_new_tokens
        self._ends = frozenset(options.eos_token_ids)
        self._end_ids = self._known(options.eos_token_ids)
        words = {word for word in options.bad_words if word}
        # A word that is just an end-of-sequence token is allowed, as in transformers.
        self._bad = self._known([word[0] for word in words if len(word) == 1 and word[0] not in self._ends])
        self._bad_words = [np.array(word, np.int32) for word in words if len(word) > 1]

    def ends(self, token: int) -> bool:
        """Whether it ends a sequence."""
        return token in self._ends

    def banned(self, tokens: Tokens, count: int) -> Tokens:
        """Return the ids that must not follow these tokens, `count` of which are new; some may be named twice."""
        parts = [self._bad] if self._bad.size else []
        if count < self._min_new:
            parts.append(self._end_ids)
        if self._ngram:
            parts.append(self._known(repeating(tokens, self._ngram)))
        parts += [self._known(word[-1:]) for word in self._bad_words if _all_but_last(word, tokens)]
        return np.concatenate(parts) if parts else _NONE

    def _known(self, ids: Sequence[int] | Tokens) -> Tokens:
        """Those that the decoder's vocabulary has."""
        known = np.array(ids, np.int32)
        return known[known < self._vocabulary_size]


def _all_but_last(word: Tokens, tokens: Tokens) -> bool:
    """Whether only its last token is missing to make a word of the last tokens."""
    begun = word.size - 1
    return begun <= tokens.size and np.array_equal(tokens[tokens.size - begun :], word[:-1])


def repeating(tokens: Tokens, size: int) -> Tokens:
    """Return what would make the last `size` tokens a run that is there already. tokens [n]"""
    windows = tokens.size - size + 1
    if windows <= 0:
        return _NONE
    same = np.ones(windows, np.bool_)
    for place in range(size - 1):
        same &= tokens[place : place + windows] == tokens[windows + place]
    return tokens[size - 1 :][same]


def process(logits: Tensor, sequences: Sequence[History]) -> Tensor:
    """Return what the sequences are chosen from. logits [B, V] float32, a row for each sequence -> [B, V]

    The argument is left as it is, and returned where no rule has anything to say.
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
    """Repetition penalty (Keskar et al. 2019). An id that is named twice is penalised once.

    A penalty near 0 makes nothing infinite, which would leave no odds to draw by.
    """
    seen = scores[rows, ids]
    most = torch.finfo(scores.dtype).max
    scores[rows, ids] = torch.where(seen < 0, seen * penalties, seen / penalties).clamp(max=most)


class _Places:
    """Entries of a [B, V] matrix."""

    def __init__(self, counts: NDArray[np.int64], ids: Tokens) -> None:
        self.counts = counts  # [B], of ids in each row
        self._ids = ids  # [sum(counts)]

    @classmethod
    def of(cls, columns: Sequence[Tokens]) -> _Places:
        return cls(np.array([column.size for column in columns], np.int64), np.concatenate(columns))

    def __bool__(self) -> bool:
        return self._ids.size > 0

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows and columns."""
        rows = np.repeat(np.arange(self.counts.size), self.counts)
        return torch.from_numpy(rows).to(device), torch.from_numpy(self._ids.astype(np.int64)).to(device)
