"""Decode greedily or by sampling: sequences that share nothing but their prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from bertstream.workers.contract import GenerationOptions
from bertstream.workers.generation.cache import CacheRows
from bertstream.workers.generation.processors import process
from bertstream.workers.generation.sampling import Odds, draw
from bertstream.workers.generation.search import Choice, FinishedSequence, Search, all_rows, all_sequences, reason_of
from bertstream.workers.generation.sequences import TokenSequence


class _Die:
    """Draw one answer's random number, the same one until the answer has gone on, if its step is repeated too."""

    def __init__(self, seed: int, number: int) -> None:
        self._generator = np.random.default_rng((seed, number))
        self.roll()

    def roll(self) -> None:
        self.chance = self._generator.random()


class Independent(Search):
    """Generate `num_return_sequences` answers, in the order of their numbers."""

    def __init__(self, root: TokenSequence, options: GenerationOptions) -> None:
        super().__init__(root, options.num_return_sequences)
        self.options = options
        self.numbers = list(range(self.count))
        self._found: dict[int, FinishedSequence] = {}
        # Each answer has a random generator of its own, so that a seed gives the same answers whatever else is
        # computed.
        self._dice = [_Die(options.seed, number) for number in range(self.count)] if options.do_sample else []

    @property
    def chances(self) -> list[float]:
        """Return the number in [0, 1) that each place draws with, where it samples."""
        return [self._dice[number].chance for number in self.numbers]

    @staticmethod
    def choose(logits: Tensor, searches: Sequence[Search]) -> list[Choice]:
        mine = [search for search in searches if isinstance(search, Independent)]
        scores = process(logits, all_sequences(mine))
        rows = torch.tensor(all_rows(mine), device=logits.device)
        tokens = scores.argmax(-1)[rows]
        _draw_over(tokens, scores, rows, mine)
        logarithms = logits[rows, tokens] - logits.logsumexp(-1)[rows]
        return _split(tokens.tolist(), logarithms.tolist(), mine)

    def advance(self, choice: Choice, cache: CacheRows) -> None:
        if self._fresh:
            self.sequences += [self.sequences[0].fork(cache) for _ in range(self.count - 1)]
            self._fresh = False
        going: list[tuple[int, TokenSequence]] = []
        for number, sequence, token, score in zip(
            self.numbers, self.sequences, choice.tokens, choice.scores, strict=True
        ):
            sequence.append(token, score)
            if self._dice:
                self._dice[number].roll()
            if sequence.ended or sequence.count == sequence.limit:
                sequence.release(cache)
                self._found[number] = _answer(sequence)
            else:
                going.append((number, sequence))
        self.numbers = [number for number, _ in going]
        self.sequences = [sequence for _, sequence in going]

    def answers(self) -> list[FinishedSequence]:
        return [self._found[number] for number in range(self.count)]


def _draw_over(tokens: Tensor, scores: Tensor, rows: Tensor, searches: Sequence[Independent]) -> None:
    """Put drawn tokens at the places that sample.

    tokens: [P], one for each place; scores: [B, V]; rows: [P].
    """
    drawn = [search.options.do_sample for search in searches for _ in search.numbers]
    if not any(drawn):
        return
    places = torch.tensor(drawn, device=tokens.device).nonzero()[:, 0]
    sampled = [search for search in searches if search.options.do_sample]
    odds = Odds.of([search.options for search in sampled for _ in search.numbers], tokens.device)
    chances = [chance for search in sampled for chance in search.chances]
    tokens[places] = draw(scores[rows[places]], odds, torch.tensor(chances, dtype=torch.float64, device=tokens.device))


def _split(tokens: list[int], scores: list[float], searches: Sequence[Independent]) -> list[Choice]:
    spans = pairwise(accumulate((len(search.numbers) for search in searches), initial=0))
    return [Choice(tokens[a:b], scores[a:b], list(range(b - a))) for a, b in spans]


def _answer(sequence: TokenSequence) -> FinishedSequence:
    scores = sequence.scores.copy()
    return FinishedSequence(sequence.generated.copy(), scores, float(scores.sum()), reason_of(sequence))
