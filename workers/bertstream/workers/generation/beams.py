"""Search by beams as transformers 5 does: the same candidates, scores and stopping rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from bertstream.workers.contract import GenerationOptions
from bertstream.workers.generation.cache import CacheRows
from bertstream.workers.generation.processors import process
from bertstream.workers.generation.search import Choice, FinishedSequence, Search, all_rows, all_sequences
from bertstream.workers.generation.sequences import TokenSequence

_NEVER = -1.0e9  # the score of a candidate that must not win


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """Hold a candidate for an answer.

    Until enough sequences have ended, one that has not ended holds the place.
    """

    sequence: TokenSequence | None = None  # holds no rows of the cache
    ended: bool = False


class BeamSearch(Search):
    """Keep `num_beams` sequences that go on, and as many that have ended, the best of which are the answers."""

    def __init__(self, root: TokenSequence, options: GenerationOptions) -> None:
        super().__init__(root, options.num_beams)
        self.options = options
        self._limit = root.limit
        # Even if all of the best ones end, as many are left as there are beams.
        self.candidates = max(2, 1 + len(options.eos_token_ids)) * self.count
        # At first all beams are the same, so only one of them counts.
        self.totals = torch.full((self.count,), _NEVER)
        self.totals[0] = 0.0
        self._hypotheses = [_Hypothesis()] * self.count
        self._scores = torch.full((self.count,), _NEVER)

    @staticmethod
    def choose(logits: Tensor, searches: Sequence[Search]) -> list[Choice]:
        mine = [search for search in searches if isinstance(search, BeamSearch)]
        logarithms = logits.log_softmax(-1)
        scores = process(logarithms, all_sequences(mine))
        rows = torch.tensor(all_rows(mine), device=logits.device)
        firsts = list(accumulate((search.count for search in mine), initial=0))
        found: dict[int, Choice] = {}
        for shape in dict.fromkeys((search.count, search.candidates) for search in mine):
            group = [at for at, search in enumerate(mine) if (search.count, search.candidates) == shape]
            places = torch.tensor([firsts[at] for at in group])[:, None] + torch.arange(shape[0])
            totals = torch.stack([mine[at].totals for at in group]).to(logits.device)
            chosen = _best(logarithms, scores, rows[places.to(logits.device)], totals, shape[1])
            found |= zip(group, chosen, strict=True)
        return [found[at] for at in range(len(mine))]

    def advance(self, choice: Choice, cache: CacheRows) -> None:
        assert choice.totals is not None
        parents = [self.sequences[row] for row in self.rows]
        count = parents[0].count + 1
        stops = torch.tensor([parents[0].rules.ends(token) for token in choice.tokens]) | (count >= self._limit)
        going = (choice.totals + stops.float() * _NEVER).topk(self.count).indices.tolist()
        self._keep_best(choice, parents, stops, count)
        self.totals = choice.totals[going] + stops[going].float() * _NEVER
        self._fresh = False
        if bool(stops.all()) or self._is_over(count):
            self.release(cache)
        else:
            heirs = [_continued(parents[choice.places[at]].fork(cache), choice, at) for at in going]
            self.release(cache)
            self.sequences = heirs

    def answers(self) -> list[FinishedSequence]:
        best = zip(self._hypotheses, self._scores.tolist(), strict=True)
        return [_answer(each, score) for each, score in list(best)[: self.options.num_return_sequences]]

    def _keep_best(self, choice: Choice, parents: Sequence[TokenSequence], stops: Tensor, count: int) -> None:
        """Keep the best of the sequences that have ended, before and now.

        Of those that end now, only the best `num_beams` candidates count.
        """
        assert choice.totals is not None
        eligible = stops & (torch.arange(stops.numel()) < self.count)
        scores = choice.totals / _power(count, self.options.length_penalty) + (~eligible).float() * _NEVER
        self._scores, order = torch.cat([self._scores, scores]).topk(self.count)
        hypotheses: list[_Hypothesis] = []
        for at in order.tolist():
            if at < self.count:
                hypotheses.append(self._hypotheses[at])
            else:
                new = at - self.count
                hypotheses.append(
                    _Hypothesis(_continued(parents[choice.places[new]].copy(), choice, new), bool(eligible[new]))
                )
        self._hypotheses = hypotheses

    def _is_over(self, count: int) -> bool:
        """Return whether the search ends before all beams have.

        count: how many tokens have been generated.
        """
        all_ended = all(each.ended for each in self._hypotheses)
        early, penalty = self.options.early_stopping, self.options.length_penalty
        if all_ended and early == "first":
            return True
        length = self._limit if early == "never" and penalty > 0 else count
        worst = float(self._scores.min()) if all_ended else _NEVER
        return not float(self.totals[0] / _power(length, penalty)) > worst


def _best(logarithms: Tensor, scores: Tensor, rows: Tensor, totals: Tensor, candidates: int) -> list[Choice]:
    """Return the best continuations of R searches.

    logarithms, scores: [B, V]; rows, totals: [R, beams].
    """
    vocabulary = scores.shape[1]
    sums = (scores[rows] + totals[:, :, None]).flatten(1)
    best, at = sums.topk(min(candidates, sums.shape[1]))
    places, tokens = at // vocabulary, at % vocabulary
    chosen = logarithms[rows.gather(1, places), tokens]
    columns = zip(tokens.tolist(), chosen.tolist(), places.tolist(), best.cpu(), strict=True)
    return [Choice(*column) for column in columns]


def _continued(sequence: TokenSequence, choice: Choice, at: int) -> TokenSequence:
    sequence.append(choice.tokens[at], choice.scores[at])
    return sequence


def _power(length: int, penalty: float) -> float:
    try:
        return math.pow(length, penalty)
    except OverflowError:
        return math.inf


def _answer(hypothesis: _Hypothesis, score: float) -> FinishedSequence:
    sequence = hypothesis.sequence
    if sequence is None:  # where even fewer continuations are allowed
        return FinishedSequence(np.empty(0, np.int32), np.empty(0, np.float32), score, "length")
    return FinishedSequence(
        sequence.generated, sequence.scores, score, "end_of_sequence" if sequence.ended else "length"
    )
