"""`POST /v1/zero-shot`: labels of the caller's choosing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bertstream.server.core.errors import too_large
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.zero_shot import ZeroShotLabels
from bertstream.server.protocols.bertstream_v1.tasks.zero_shot import parse_zero_shot
from bertstream.server.protocols.http.common_options import CutRequest
from bertstream.server.protocols.http.tasks.base import TaskRoute, by_counts, with_common
from bertstream.server.protocols.http.tasks.inputs import TextInputs, texts_of
from bertstream.server.protocols.http.tasks.models import ENTAILMENT
from bertstream.v1 import tasks_pb2


class ZeroShotRequest(CutRequest, kw_only=True):
    """The body of `/v1/zero-shot`."""

    inputs: TextInputs
    labels: list[str]
    multi_label: bool = False
    hypothesis_template: str = ""


def _options(request: ZeroShotRequest) -> tasks_pb2.ZeroShotOptions:
    options = tasks_pb2.ZeroShotOptions(
        labels=request.labels,
        multi_label=request.multi_label,
        hypothesis_template=request.hypothesis_template,
    )
    return with_common(options, request)


def _items(request: ZeroShotRequest, max_texts: int) -> SentItems:
    sent, labels = texts_of(request.inputs, "inputs", max_texts), len(request.labels)
    texts = 1 if isinstance(request.inputs, str) else len(request.inputs)
    if texts > 1 and texts * labels > max_texts:
        about = f"{texts} texts of {labels} labels each are more than {max_texts} pairs: send fewer texts"
        raise too_large("inputs", about)
    return sent


def _entries(request: ZeroShotRequest, answer: ZeroShotLabels) -> Sequence[Any]:
    """Return each text with all labels, best first."""
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    counts = [answer.label_count] * len(texts)
    labels = by_counts([request.labels[index] for index in answer.label_indexes.tolist()], counts)
    scores = by_counts(answer.scores, counts)
    columns = zip(texts, labels, scores, strict=True)
    return [{"sequence": text, "labels": named, "scores": scored} for text, named, scored in columns]


ROUTE = TaskRoute(
    "/v1/zero-shot",
    "Sort labels of the caller's choosing by how well they fit texts.",
    ZeroShotRequest,
    ENTAILMENT,
    _options,
    parse_zero_shot,
    _items,
    _entries,
    example={"inputs": "A cat sleeps on the warm roof.", "labels": ["animals", "weather"]},
    answer={"sequence": "A cat sleeps on the warm roof.", "labels": ["animals", "weather"], "scores": [0.97, 0.03]},
)
