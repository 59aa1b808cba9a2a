"""Make the outputs for masked tokens: the most likely ids, and how likely one id is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bertstream.workers.contract import HeadOptions, Output
from bertstream.workers.engine.heads.asking import Asking, Joined, Named, slices
from bertstream.workers.engine.vocabulary import Candidates, Demand, LogProbabilities, fill
from bertstream.workers.ragged import Ints

_HEAD = "fill_mask"
Key = tuple[Output, tuple[int, ...]]  # the output and its target ids


def mask_candidates(asking: Asking, index: int) -> Named:
    """Find the most likely ids in the place of each span, [S, k]."""
    return _masked(asking, index, "mask_candidates").of(index, "mask_candidates", asking.options(index).top_k)


def token_log_probabilities(asking: Asking, index: int) -> Named:
    """Take the logarithm of the probability of each span's id, [S]."""
    return _masked(asking, index, "token_log_probabilities").of(index, "token_log_probabilities")


def _masked(asking: Asking, index: int, output: Output) -> Joined:
    """Return this output for all works with the same targets. All outputs come from the same products."""
    return asking.once(_HEAD, lambda: _fill(asking))[_key(output, asking.options(index))]


def _fill(asking: Asking) -> dict[Key, Joined]:
    groups: dict[Key, list[int]] = {}
    for output in _DEMANDS:
        for index in asking.works(output):
            groups.setdefault(_key(output, asking.options(index)), []).append(index)
    rows = {key: [asking.span_tokens(index) for index in works] for key, works in groups.items()}
    demands = {key: _DEMANDS[key[0]](asking, works, np.concatenate(rows[key])) for key, works in groups.items()}
    program = asking.program
    fill(list(demands.values()), asking.last, lambda states: program.logits(_HEAD, states), program.vocabulary_size)
    return {
        key: Joined({name: values.cpu() for name, values in demand.found.items()}, slices(groups[key], rows[key]))
        for key, demand in demands.items()
    }


def _key(output: Output, options: HeadOptions) -> Key:
    return output, options.targets if output == "mask_candidates" else ()


def _candidates(asking: Asking, works: Sequence[int], rows: Ints) -> Demand:
    k = max(asking.options(index).top_k for index in works)
    targets = asking.options(works[0]).targets
    return Candidates(rows, k, targets, asking.program.vocabulary_size, asking.last.device)


def _log_probabilities(asking: Asking, works: Sequence[int], rows: Ints) -> Demand:
    ids = [asking.spans(index).ids for index in works]
    return LogProbabilities(rows, np.concatenate([each for each in ids if each is not None]), asking.last.device)


_DEMANDS: Mapping[Output, Callable[[Asking, Sequence[int], Ints], Demand]] = {
    "mask_candidates": _candidates,
    "token_log_probabilities": _log_probabilities,
}
