"""Give the ids of the vocabulary that have a weight for each text, and their weights (SPLADE, BGE-M3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from bertstream.server.core.computing import check_answer_size
from bertstream.server.core.models import ServedModel
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.calls import prepare_items
from bertstream.server.core.tasks.sparse import HEAD, LEXICAL, EncodeSparse, SparseVectors, encode_sparse, own_top_k
from bertstream.server.protocols.inference.options import (
    PROMPT,
    TRUNCATION,
    Options,
    kind_of,
    priority_of,
    prompt_of,
    truncation_of,
)
from bertstream.server.protocols.inference.tasks.base import (
    ADVICE,
    AskedTensors,
    InferTurn,
    Work,
    work_of,
)
from bertstream.server.protocols.inference.tensors import Array, Spec, pad
from bertstream.workers.programs.description import ModelDescription

IDS, WEIGHTS, COUNT = "sparse_ids", "sparse_weights", "sparse_count"
_SPECS = (Spec(IDS, "INT32", (-1, -1)), Spec(WEIGHTS, "FP32", (-1, -1)), Spec(COUNT, "INT32", (-1, 1)))
_BYTES = 8  # of an id and its weight


class Sparse:
    """Give as many ids and weights for each text as the one with the most has, by rising id, and zeros behind them."""

    parameters = TRUNCATION | PROMPT | {"top_k"}

    def reads_pairs(self, description: ModelDescription) -> bool:
        """Return False."""
        return False

    def outputs(self, description: ModelDescription) -> Sequence[Spec]:
        """Return the ids, their weights, and how many of them each text has."""
        return _SPECS if HEAD in description.heads or LEXICAL in description.heads else ()

    def defaults(self, description: ModelDescription) -> Sequence[str]:
        """Return all of them."""
        return (IDS, WEIGHTS, COUNT)

    async def prepare(self, asked: AskedTensors, turn: InferTurn) -> Work:
        """Tokenize the texts."""
        model, sent = turn.model, asked.given.sent
        least = _top_k(asked.options, model.description) or 1  # of all, nobody knows how many there are

        def begin() -> tuple[EncodeSparse, SentItems]:
            return _task(asked.options, turn), sent

        prepared = await prepare_items(model, begin, ADVICE)
        return work_of(asked, turn, prepared, least, partial(_arrays, model))


def _task(options: Options, turn: InferTurn) -> EncodeSparse:
    description = turn.model.description
    prompt, prompt_asked = prompt_of(options, description)
    return encode_sparse(
        turn.model,
        truncation_of(options, description),
        priority_of(options, turn.priority),
        prompt=prompt,
        prompt_asked=prompt_asked,
        top_k=_top_k(options, description),
        kind=kind_of(options),
    )


def _top_k(options: Options, description: ModelDescription) -> int:
    """Return how many weights a text may have; 0 for all."""
    return options.number("top_k", 1, description.vocabulary_size) or own_top_k(description)


def _arrays(model: ServedModel, answer: SparseVectors) -> dict[str, Array]:
    counts = answer.weight_counts.astype(np.int64)
    width = int(counts.max())
    check_answer_size(counts.size * width * _BYTES, model.limits, "outputs", f"{ADVICE}, or give top_k")
    return {
        IDS: pad(answer.token_ids.astype("<i4"), counts, width),
        WEIGHTS: pad(answer.weights.astype("<f4"), counts, width),
        COUNT: counts[:, None].astype("<i4"),
    }
