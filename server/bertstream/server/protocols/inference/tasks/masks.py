"""Give the best candidates for the mask of each text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertstream.server.core.errors import invalid
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.calls import prepare_items
from bertstream.server.core.tasks.masks import FillMasks, MaskCandidates, fill_masks
from bertstream.server.protocols.inference.options import TRUNCATION, Options, priority_of, truncation_of
from bertstream.server.protocols.inference.tasks.base import (
    ADVICE,
    AskedTensors,
    InferTurn,
    Work,
    work_of,
)
from bertstream.server.protocols.inference.tensors import Array, Spec, Strings
from bertstream.workers.programs.description import ModelDescription

TOKENS, TOKEN_IDS, SCORES = "mask_tokens", "mask_token_ids", "mask_scores"
_TOP_K, _MOST = 5, 1000


class Masks:
    """Give k candidates for the only mask of each text, best first."""

    parameters = TRUNCATION | {"top_k"}

    def reads_pairs(self, description: ModelDescription) -> bool:
        """Return False."""
        return False

    def outputs(self, description: ModelDescription) -> Sequence[Spec]:
        """Return the candidates' tokens, ids and scores."""
        if "fill_mask" not in description.heads or "mask" not in description.special_tokens:
            return ()
        return (Spec(TOKENS, "BYTES", (-1, -1)), Spec(TOKEN_IDS, "INT32", (-1, -1)), Spec(SCORES, "FP32", (-1, -1)))

    def defaults(self, description: ModelDescription) -> Sequence[str]:
        """Return all of them."""
        return (TOKENS, TOKEN_IDS, SCORES)

    async def prepare(self, asked: AskedTensors, turn: InferTurn) -> Work:
        """Find the masks. Raises INVALID_MASK for a text without one, or with several."""
        model, sent = turn.model, asked.given.sent

        def begin() -> tuple[FillMasks, SentItems]:
            return _task(asked.options, turn), sent

        prepared = await prepare_items(model, begin, ADVICE)
        counts = prepared.rows.batch.spans.counts  # type: ignore[union-attr]  # a task for masks has them
        if (several := np.flatnonzero(counts > 1)).size:
            about = f"it has {counts[several[0]]} masks, and there is room for the candidates of one"
            raise invalid(sent.at(int(several[0])), about, "INVALID_MASK")
        top_k = _top_k(asked.options)
        return work_of(asked, turn, prepared, top_k, _arrays)


def _task(options: Options, turn: InferTurn) -> FillMasks:
    truncation, priority = truncation_of(options, turn.model.description), priority_of(options, turn.priority)
    return fill_masks(turn.model, truncation, priority, _top_k(options), sequences=False)


def _top_k(options: Options) -> int:
    return options.number("top_k", 1, _MOST) or _TOP_K


def _arrays(answer: MaskCandidates) -> dict[str, Array]:
    shape = (len(answer.candidate_counts), answer.candidate_counts[0])
    return {
        TOKENS: Strings(shape, answer.tokens),
        TOKEN_IDS: answer.token_ids.astype("<i4").reshape(shape),
        SCORES: answer.scores.astype("<f4").reshape(shape),
    }
