"""`POST /v1/next-sentence`: whether the second text of a pair follows the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.sentences import NextSentences
from bertstream.server.protocols.bertstream_v1.tasks.sentences import parse_next_sentence
from bertstream.server.protocols.http.common_options import CutRequest
from bertstream.server.protocols.http.tasks.base import TaskRoute, with_common
from bertstream.server.protocols.http.tasks.inputs import PairInputs, pairs_of
from bertstream.server.protocols.http.tasks.models import NEXT_SENTENCE
from bertstream.v1 import tasks_pb2


class NextSentenceRequest(CutRequest, kw_only=True):
    """The body of `/v1/next-sentence`."""

    inputs: PairInputs


def _options(request: NextSentenceRequest) -> tasks_pb2.NextSentenceOptions:
    return with_common(tasks_pb2.NextSentenceOptions(), request)


def _items(request: NextSentenceRequest, max_texts: int) -> SentItems:
    return pairs_of(request.inputs, "inputs", max_texts)


def _entries(request: NextSentenceRequest, answer: NextSentences) -> Sequence[Any]:
    return [{"probability": each} for each in answer.probabilities.astype(np.float32, copy=False)]


ROUTE = TaskRoute(
    "/v1/next-sentence",
    "Tell whether the second text of each pair follows the first.",
    NextSentenceRequest,
    NEXT_SENTENCE,
    _options,
    parse_next_sentence,
    _items,
    _entries,
    example={"inputs": ["A cat sleeps on the roof.", "It dreams of mice."]},
    answer={"probability": 0.998},
)
