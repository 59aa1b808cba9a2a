"""Make the output for sparse vectors: the weights of the vocabulary's ids for each text, without those that are 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import torch

from bertstream.workers.contract import HeadName
from bertstream.workers.engine.heads.asking import Asking, Named
from bertstream.workers.engine.sparse import SparseRows, greatest_by_id, keep_best, pool_sparse
from bertstream.workers.ragged import Ints

_HEAD = "fill_mask"
LEXICAL: HeadName = "lexical_weights"


def sparse_weights(asking: Asking, index: int) -> Named:
    """Weigh ids for each text: how many have a weight, [n], and their ids and weights, [S]."""
    options = asking.options(index)
    if options.name in _BY_TOKEN:
        weights = _BY_TOKEN[options.name](asking, index).float().cpu().numpy().reshape(-1)
        found = greatest_by_id(asking.ids(index), weights, asking.lengths(index), options.skipped)
    else:
        found = asking.once(("sparse_weights", options.sparse), lambda: _pool(asking, index))[index]
    if options.top_k:
        found = keep_best(found, options.top_k)
    columns = {"counts": found.counts, "ids": found.ids, "weights": found.weights}
    return {f"sparse_weights.{name}": torch.from_numpy(column) for name, column in columns.items()}


def _pool(asking: Asking, index: int) -> dict[int, SparseRows]:
    """Pool the texts of all works that pool alike; return each work's, by its index in the batch."""
    pooling, program = asking.options(index).sparse, asking.program
    works = [each for each in asking.works("sparse_weights", _HEAD) if asking.options(each).sparse == pooling]
    lengths = [asking.lengths(each) for each in works]
    rows = np.concatenate([asking.tokens(each) for each in works])

    def logits(some: Ints) -> torch.Tensor:
        return program.logits(_HEAD, asking.states([some]))

    pooled = pool_sparse(logits, program.vocabulary_size, rows, np.concatenate(lengths), pooling)
    texts = np.cumsum([0, *(each.size for each in lengths)]).tolist()
    return {work: _part(pooled, first, last) for work, (first, last) in zip(works, pairwise(texts), strict=True)}


def _lexical(asking: Asking, index: int) -> torch.Tensor:
    """Weigh the tokens of a work's texts by their states (BGE-M3, https://arxiv.org/abs/2402.03216)."""
    return asking.program.logits(LEXICAL, asking.states([asking.tokens(index)]))


def _static(asking: Asking, index: int) -> torch.Tensor:
    """Weigh the tokens of a work's texts whatever their states, as queries of models that compute documents alone."""
    return asking.program.weights_of(torch.from_numpy(asking.ids(index)).to(asking.device))


# By head, the weight of each token; an id has the greatest of its tokens.
_BY_TOKEN: Mapping[HeadName, Callable[[Asking, int], torch.Tensor]] = {LEXICAL: _lexical, "static_weights": _static}


def _part(pooled: SparseRows, first: int, last: int) -> SparseRows:
    """Return the texts from `first` up to `last`, as copies, which keep no other work's weights alive."""
    start = int(pooled.counts[:first].sum())
    end = start + int(pooled.counts[first:last].sum())
    return SparseRows(pooled.counts[first:last].copy(), pooled.ids[start:end].copy(), pooled.weights[start:end].copy())
