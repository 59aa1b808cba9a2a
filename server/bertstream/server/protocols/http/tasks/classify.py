"""`POST /v1/classify`: the labels of texts and pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.labels import TextLabels
from bertstream.server.protocols.bertstream_v1.tasks.labels import parse_classify
from bertstream.server.protocols.bertstream_v1.validation.names import WINDOW_POOLINGS
from bertstream.server.protocols.bertstream_v1.validation.tasks import SCORE_FUNCTIONS
from bertstream.server.protocols.enums import value_of
from bertstream.server.protocols.http.common_options import MOST, CutRequest
from bertstream.server.protocols.http.tasks.base import Number, TaskRoute, by_counts, with_common
from bertstream.server.protocols.http.tasks.inputs import TextOrPairInputs, texts_or_pairs_of
from bertstream.server.protocols.tei_v1.choosing import CLASSIFIER
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import ScoreFunction

ScorePooling = Literal["mean", "max", "weighted"]


class ClassifyRequest(CutRequest, kw_only=True):
    """The body of `/v1/classify`."""

    inputs: TextOrPairInputs
    top_k: Number | None = None
    function: ScoreFunction | None = None
    windows: bool = False
    stride: Annotated[int, Meta(ge=0, le=MOST)] | None = None
    window_pooling: ScorePooling | None = None


def _options(request: ClassifyRequest) -> tasks_pb2.ClassifyTextOptions:
    options = tasks_pb2.ClassifyTextOptions(top_k=request.top_k or 0, windows=request.windows, stride=request.stride)
    if request.window_pooling is not None:
        options.window_pooling = value_of(WINDOW_POOLINGS, request.window_pooling)
    if request.function is not None:
        options.function = value_of(SCORE_FUNCTIONS, request.function)
    return with_common(options, request)


def _items(request: ClassifyRequest, max_texts: int) -> SentItems:
    return texts_or_pairs_of(request.inputs, "inputs", max_texts)


def _entries(request: ClassifyRequest, answer: TextLabels) -> Sequence[Any]:
    """Return the labels of each text, best first."""
    pairs = zip(answer.label_ids.tolist(), answer.scores.astype(np.float32, copy=False), strict=True)
    labels = [{"label": answer.labels[label], "score": score} for label, score in pairs]
    return by_counts(labels, answer.label_counts)


ROUTE = TaskRoute(
    "/v1/classify",
    "Give the labels of texts and pairs, best first.",
    ClassifyRequest,
    CLASSIFIER,
    _options,
    parse_classify,
    _items,
    _entries,
    example={"inputs": "A cat sleeps on the warm roof."},
    answer=[{"label": "POSITIVE", "score": 0.991}, {"label": "NEGATIVE", "score": 0.009}],
)
