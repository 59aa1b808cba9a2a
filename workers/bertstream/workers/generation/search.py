"""How the answers to one Generate are found, step by step."""

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
    """What one step has found for one search, the state of which it leaves as it is."""

    tokens: list[int]  # [k]
    scores: list[float]  # [k] natural logarithms of the model's probabilities
    places: list[int]  # [k] which of the search's places each continues
    totals: Tensor | None = None  # [k] of a beam search: scores of the whole sequences so far, descending


@dataclass(frozen=True, slots=True)
class Answer:
    """One sequence that has ended."""

    tokens: NDArray[np.int32]
    token_scores: NDArray[np.float32]
    score: float
    reason: FinishReason


class Search(ABC):
    """Begins with one sequence, the root, which the first choice makes into as many as are wanted.

    A place is a sequence after that; before, all places are the root's. A search without sequences is done.
    """

    def __init__(self, root: TokenSequence, count: int) -> None:
        self.sequences = [root]
        self.count = count
        self.numbers: list[int] = []  # which answer each place makes, where that is known before it is done
        self._fresh = True

    @property
    def done(self) -> bool:
        """Whether all answers are there."""
        return not self.sequences

    @property
    def rows(self) -> list[int]:
        """Which of the sequences each place is."""
        return [0] * self.count if self._fresh else list(range(len(self.sequences)))

    def release(self, cache: CacheRows) -> None:
        """End it, wherever it is."""
        for sequence in self.sequences:
            sequence.release(cache)
        self.sequences = []

    @staticmethod
    @abstractmethod
    def choose(logits: Tensor, searches: Sequence[Search]) -> list[Choice]:
        """Return a choice for each of several searches of one kind.

        logits [B, V] float32: the rows of all their sequences.
        """

    @abstractmethod
    def advance(self, choice: Choice, cache: CacheRows) -> None:
        """Goes on with what was chosen. Takes no more of the cache."""

    @abstractmethod
    def answers(self) -> list[Answer]:
        """Once it is done."""


def choose(logits: Tensor, searches: Sequence[Search]) -> list[Choice]:
    """Return a choice for each search. logits [B, V] float32: the rows of all their sequences, in order."""
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
    """In order."""
    return [sequence for search in searches for sequence in search.sequences]


def all_rows(searches: Sequence[Search]) -> list[int]:
    """For each place of each search, which of all their sequences it is."""
    firsts = accumulate((len(each.sequences) for each in searches), initial=0)
    return [first + row for first, search in zip(firsts, searches, strict=False) for row in search.rows]


def reason_of(sequence: TokenSequence) -> FinishReason:
    """Why it ended."""
    return "end_of_sequence" if sequence.ended else "length"
