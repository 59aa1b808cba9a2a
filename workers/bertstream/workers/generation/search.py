"""Find the answers to one Generate, step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertstream.workers.contract import FinishReason
from bertstream.workers.generation.cache import CacheRows
from bertstream.workers.generation.sequences import TokenSequence


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold what one step has found for one search, which the step leaves unchanged."""

    tokens: list[int]  # [k]
    scores: list[float]  # [k] natural logarithms of the model's probabilities
    places: list[int]  # [k] which of the search's places each of them continues
    totals: Tensor | None = None  # [k] for a beam search: scores of the whole sequences so far, descending


@dataclass(frozen=True, slots=True)
class FinishedSequence:
    """Hold one sequence that has ended."""

    tokens: NDArray[np.int32]
    token_scores: NDArray[np.float32]
    score: float
    reason: FinishReason


class Search(ABC):
    """Search for answers from one sequence, the root, which the first choice splits into as many as are wanted.

    From then on each place is a sequence; before that, all places are the root. A search without sequences is done.
    """

    def __init__(self, root: TokenSequence, count: int) -> None:
        self.sequences = [root]
        self.count = count
        self.numbers: list[int] = []  # which answer each place makes, where that is known in advance
        self._fresh = True

    @property
    def done(self) -> bool:
        """Return whether all answers are there."""
        return not self.sequences

    @property
    def rows(self) -> list[int]:
        """Return which of the sequences each place is."""
        return [0] * self.count if self._fresh else list(range(len(self.sequences)))

    def release(self, cache: CacheRows) -> None:
        """End the search at any time, and give its rows back."""
        for sequence in self.sequences:
            sequence.release(cache)
        self.sequences = []

    @staticmethod
    @abstractmethod
    def choose(logits: Tensor, searches: Sequence[Search]) -> list[Choice]:
        """Return a choice for each of several searches of one kind.

        logits: [B, V] float32, the rows of all their sequences.
        """

    @abstractmethod
    def advance(self, choice: Choice, cache: CacheRows) -> None:
        """Go on with what was chosen. This takes no more of the cache."""

    @abstractmethod
    def answers(self) -> list[FinishedSequence]:
        """Return the answers, once the search is done."""


def choose(logits: Tensor, searches: Sequence[Search]) -> list[Choice]:
    """Return a choice for each search.

    logits: [B, V] float32, the rows of all their sequences, in order.
    """
    spans = list(pairwise(accumulate((len(each.sequences) for each in searches), initial=0)))
    choices: dict[int, Choice] = {}
    for kind in dict.fromkeys(type(each) for each in searches):
        mine = [at for at, each in enumerate(searches) if type(each) is kind]
        rows = logits
        if len(mine) < len(searches):
            wanted = [row for at in mine for row in range(*spans[at])]
            rows = logits[torch.tensor(wanted, device=logits.device)]
        choices |= zip(mine, kind.choose(rows, [searches[at] for at in mine]), strict=True)
    return [choices[at] for at in range(len(searches))]


def all_sequences(searches: Sequence[Search]) -> list[TokenSequence]:
    """Return the sequences of all searches, in order."""
    return [sequence for search in searches for sequence in search.sequences]


def all_rows(searches: Sequence[Search]) -> list[int]:
    """Return, for each place of each search, its index among the sequences of all searches."""
    firsts = accumulate((len(each.sequences) for each in searches), initial=0)
    return [first + row for first, search in zip(firsts, searches, strict=False) for row in search.rows]


def reason_of(sequence: TokenSequence) -> FinishReason:
    """Return why a sequence ended."""
    return "end_of_sequence" if sequence.ended else "length"
