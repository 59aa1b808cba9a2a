"""Task heads: from the last states of a batch to the outputs of the works that want one.

What several works want of the same head is computed once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bertstream.workers.contract import HeadWish, Output, ScoreFunction, Spans
from bertstream.workers.engine.answers import best_answers
from bertstream.workers.engine.batch import Prepared
from bertstream.workers.engine.masked import Candidates, LogProbabilities, fill
from bertstream.workers.programs.interface import Program
from bertstream.workers.ragged import Ints, rows_of

Named = dict[str, Tensor]
_MASKED: tuple[Output, ...] = ("mask_candidates", "token_log_probabilities")


@dataclass(frozen=True, slots=True)
class _Shared:
    """What was made for several works, their rows end to end. By its name's ending, "" where there is one tensor."""

    tensors: Named
    slices: dict[int, slice]  # by the work's index in the batch

    def of(self, index: int, name: str, columns: int | None = None) -> Named:
        """One work's rows, as copies, which keep nobody else's alive."""
        found = Named()
        for ending, values in self.tensors.items():
            rows = values[self.slices[index]]
            found[name + ending] = (rows[:, :columns] if rows.dim() > 1 else rows).clone()
        return found


class Heads:
    """Runs the heads that the works of a batch want, each when it is first asked for."""

    def __init__(self, program: Program, batch: Prepared, states: Mapping[int, Tensor]) -> None:
        self._program = program
        self._batch = batch
        self._states = states
        self._places = batch.places()
        self._made: dict[Hashable, _Shared] = {}

    def of(self, index: int) -> Named:
        """The outputs of one work's head, float32 and int32, on the CPU; none where it wants none."""
        found = Named()
        for output in self._batch.works[index].wishes.outputs:
            if output == "label_scores":
                found |= self._label_scores(index)
            elif output == "token_label_scores":
                found |= self._scores(index, output).of(index, output)
            elif output == "answer_spans":
                found |= self._answers(index).of(index, output, self._wish(index).top_k)
            elif output == "mask_candidates":
                found |= self._masked(index, output).of(index, output, self._wish(index).top_k)
            elif output == "token_log_probabilities":
                found |= self._masked(index, output).of(index, output)
        return found

    def _label_scores(self, index: int) -> Named:
        found = self._scores(index, "label_scores").of(index, "label_scores")
        if not (k := self._wish(index).top_k):
            return found
        # Stable, so that the lower label is first where scores are equal.
        best, ids = found["label_scores"].sort(dim=1, descending=True, stable=True)
        return {"label_scores.ids": ids[:, :k].int().contiguous(), "label_scores.scores": best[:, :k].contiguous()}

    def _scores(self, index: int, output: Output) -> _Shared:
        """[rows, labels] of all works that want the same function of the same head's logits."""
        wish = self._wish(index)
        return self._once((output, wish.name, wish.function), lambda: self._score(output, wish))

    def _score(self, output: Output, wish: HeadWish) -> _Shared:
        logits = self._logits(output, wish)
        return _Shared({"": apply(wish.function, logits.tensors[""]).cpu()}, logits.slices)

    def _logits(self, output: Output, wish: HeadWish) -> _Shared:
        """[rows, labels] float32 of all works that want this of the head: of first tokens, or of all tokens."""
        return self._once((output, wish.name), lambda: self._run(output, wish))

    def _run(self, output: Output, wish: HeadWish) -> _Shared:
        asking = self._asking(output, wish.name)
        if wish.name in self._program.whole_text_heads:
            return self._run_whole(asking)
        per_text = output == "label_scores"
        rows = [self._first_tokens(index) if per_text else self._tokens(index) for index in asking]
        run = self._program.text_logits if per_text else self._program.token_logits
        return _Shared({"": run(wish.name, self._states_of(rows)).float()}, _slices(asking, rows))

    def _run_whole(self, asking: Sequence[int]) -> _Shared:
        """[texts, labels] float32 of sentence-transformers' modules, which pool all of a text's tokens."""
        states = self._states_of([self._tokens(index) for index in asking]).float()
        lengths = [self._batch.works[index].batch.lengths for index in asking]
        logits = self._program.pool(states, np.concatenate(lengths).tolist(), "checkpoint")
        return _Shared({"": logits}, _slices(asking, lengths))

    def _states_of(self, rows: Sequence[Ints]) -> Tensor:
        """The last layer's. [rows, H]"""
        return self._last.index_select(0, torch.from_numpy(np.concatenate(rows)).to(self._last.device))

    def _answers(self, index: int) -> _Shared:
        """Answers to all works whose answers may have the same length."""
        limit = self._wish(index).max_answer_tokens
        return self._once(("answers", limit), lambda: self._answer(limit))

    def _answer(self, limit: int) -> _Shared:
        asking = [i for i in self._asking("answer_spans") if self._wish(i).max_answer_tokens == limit]
        logits = self._logits("answer_spans", self._wish(asking[0]))
        spans = [self._spans(index) for index in asking]
        found = best_answers(
            torch.cat([logits.tensors[""][logits.slices[index]] for index in asking]),
            np.concatenate([self._batch.works[index].batch.lengths for index in asking]),
            np.concatenate([each.starts for each in spans]),
            np.concatenate([each.lengths for each in spans]),
            max(self._wish(index).top_k for index in asking),
            limit,
        )
        named = {f".{name}": values.cpu() for name, values in found.items()}
        return _Shared(named, _slices(asking, [each.starts for each in spans]))

    def _masked(self, index: int, output: Output) -> _Shared:
        """What works want of the vocabulary's probabilities, with the same targets. All comes of the same products."""
        key = _masked_key(output, self._wish(index))
        if key not in self._made:
            self._made |= self._fill()
        return self._made[key]

    def _fill(self) -> dict[Hashable, _Shared]:
        groups: dict[tuple[Output, tuple[int, ...]], list[int]] = {}
        for output in _MASKED:
            for index in self._asking(output):
                groups.setdefault(_masked_key(output, self._wish(index)), []).append(index)
        rows = {key: [self._span_tokens(index) for index in asking] for key, asking in groups.items()}
        demands = {key: self._demand(*key, asking, np.concatenate(rows[key])) for key, asking in groups.items()}
        fill(list(demands.values()), self._last, self._program.mask_logits, self._program.vocabulary_size)
        return {
            key: _Shared({name: values.cpu() for name, values in demand.found.items()}, _slices(groups[key], rows[key]))
            for key, demand in demands.items()
        }

    def _demand(
        self, output: Output, targets: tuple[int, ...], asking: Sequence[int], rows: Ints
    ) -> Candidates | LogProbabilities:
        device = self._last.device
        if output == "mask_candidates":
            k = max(self._wish(index).top_k for index in asking)
            return Candidates(rows, k, targets, self._program.vocabulary_size, device)
        ids = [self._spans(index).ids for index in asking]
        return LogProbabilities(rows, np.concatenate([each for each in ids if each is not None]), device)

    def _once(self, key: Hashable, make: Callable[[], _Shared]) -> _Shared:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _asking(self, output: Output, head: str = "") -> list[int]:
        """The works that want this output, of this head where one is named."""
        return [
            index
            for index, work in enumerate(self._batch.works)
            if output in work.wishes.outputs and head in ("", self._wish(index).name)
        ]

    @property
    def _last(self) -> Tensor:
        return self._states[self._batch.last_layer]

    def _wish(self, index: int) -> HeadWish:
        wish = self._batch.works[index].wishes.head
        assert wish is not None
        return wish

    def _spans(self, index: int) -> Spans:
        spans = self._batch.works[index].batch.spans
        assert spans is not None
        return spans

    def _first_tokens(self, index: int) -> Ints:
        return self._batch.starts[self._places[index]]

    def _tokens(self, index: int) -> Ints:
        return rows_of(self._first_tokens(index), self._batch.works[index].batch.lengths)

    def _span_tokens(self, index: int) -> Ints:
        spans = self._spans(index)
        rows: Ints = np.repeat(self._first_tokens(index), spans.counts) + spans.starts
        return rows


def apply(function: ScoreFunction, logits: Tensor) -> Tensor:
    """Scores of labels. [rows, labels]"""
    if function == "softmax":
        return logits.softmax(dim=1)
    return logits.sigmoid() if function == "sigmoid" else logits


def _masked_key(output: Output, wish: HeadWish) -> tuple[Output, tuple[int, ...]]:
    return output, wish.targets if output == "mask_candidates" else ()


def _slices(asking: Sequence[int], rows: Sequence[np.ndarray[tuple[int], np.dtype[np.integer]]]) -> dict[int, slice]:
    """Where each work's rows are, among those of all that ask."""
    ends = np.cumsum([each.size for each in rows]).tolist()
    return {index: slice(*place) for index, place in zip(asking, pairwise([0, *ends]), strict=True)}
