"""`POST /v1/score`: the pseudo-log-likelihood of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.likelihoods import TextScores
from bertstream.server.protocols.bertstream_v1.tasks.likelihoods import parse_score_text
from bertstream.server.protocols.http.common_options import CutRequest
from bertstream.server.protocols.http.tasks.base import TaskRoute, by_counts, with_common
from bertstream.server.protocols.http.tasks.inputs import TextOrPairInputs, texts_or_pairs_of
from bertstream.server.protocols.http.tasks.models import MASKED
from bertstream.v1 import tasks_pb2


class ScoreRequest(CutRequest, kw_only=True):
    """The body of `/v1/score`."""

    inputs: TextOrPairInputs


def _options(request: ScoreRequest) -> tasks_pb2.ScoreTextOptions:
    return with_common(tasks_pb2.ScoreTextOptions(), request)


def _items(request: ScoreRequest, max_texts: int) -> SentItems:
    return texts_or_pairs_of(request.inputs, "inputs", max_texts)


def _entries(request: ScoreRequest, answer: TextScores) -> Sequence[Any]:
    counts = answer.token_counts.tolist()
    tokens = by_counts(answer.token_ids.tolist(), counts)
    logs = by_counts(answer.log_probabilities.astype(np.float32), counts)
    return [
        {"score": score, "token_ids": ids, "log_probabilities": each}
        for score, ids, each in zip(answer.scores.tolist(), tokens, logs, strict=True)
    ]


ROUTE = TaskRoute(
    "/v1/score",
    "Tell how likely texts are, by their pseudo-log-likelihood.",
    ScoreRequest,
    MASKED,
    _options,
    parse_score_text,
    _items,
    _entries,
    example={"inputs": "A cat sleeps."},
    answer={"score": -9.7, "token_ids": [1037, 4937, 25126], "log_probabilities": [-1.2, -4.1, -4.4]},
)
