"""`POST /v1/fill-mask`: candidates for the masks of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.masks import MaskCandidates
from bertstream.server.protocols.bertstream_v1.tasks.masks import parse_fill_mask
from bertstream.server.protocols.http.common_options import MOST, CutRequest
from bertstream.server.protocols.http.tasks.base import Number, TaskRoute, by_counts, with_common
from bertstream.server.protocols.http.tasks.inputs import TextOrPairInputs, texts_or_pairs_of
from bertstream.server.protocols.http.tasks.models import MASKED
from bertstream.v1 import tasks_pb2


class FillMaskRequest(CutRequest, kw_only=True):
    """The body of `/v1/fill-mask`."""

    inputs: TextOrPairInputs
    top_k: Number | None = None
    targets: Annotated[list[str], Meta(min_length=1)] | None = None
    target_ids: Annotated[list[Annotated[int, Meta(ge=0, le=MOST)]], Meta(min_length=1)] | None = None
    omit_sequences: bool = False


def _options(request: FillMaskRequest) -> tasks_pb2.FillMaskOptions:
    options = tasks_pb2.FillMaskOptions(
        top_k=request.top_k or 0,
        targets=request.targets or (),
        target_ids=request.target_ids or (),
        omit_sequences=request.omit_sequences,
    )
    return with_common(options, request)


def _items(request: FillMaskRequest, max_texts: int) -> SentItems:
    return texts_or_pairs_of(request.inputs, "inputs", max_texts)


def _entries(request: FillMaskRequest, answer: MaskCandidates) -> Sequence[Any]:
    """Return the candidates of each text with one mask, and a list of those of each mask of a text with several."""
    scores = answer.scores.astype(np.float32, copy=False)
    columns = zip(scores, answer.token_ids.tolist(), answer.tokens, strict=True)
    candidates = [{"score": score, "token": token, "token_str": text} for score, token, text in columns]
    if answer.sequences:
        pairs = zip(candidates, answer.sequences, strict=True)
        candidates = [{**candidate, "sequence": sequence} for candidate, sequence in pairs]
    masks = by_counts(by_counts(candidates, answer.candidate_counts), answer.mask_counts.tolist())
    return [each[0] if len(each) == 1 else each for each in masks]


ROUTE = TaskRoute(
    "/v1/fill-mask",
    "Find what may stand in the place of each mask of texts.",
    FillMaskRequest,
    MASKED,
    _options,
    parse_fill_mask,
    _items,
    _entries,
    example={"inputs": "Paris is the [MASK] of France.", "top_k": 1},
    answer=[{"score": 0.997, "token": 3007, "token_str": "capital", "sequence": "paris is the capital of france."}],
)
