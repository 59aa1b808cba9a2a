"""`POST /v1/entities`: the entities of texts, or the labels of their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.entities import Entities
from bertstream.server.core.tasks.entities_groups import Aggregation
from bertstream.server.protocols.bertstream_v1.tasks.entities import AGGREGATIONS, parse_entities
from bertstream.server.protocols.enums import value_of
from bertstream.server.protocols.http.common_options import MOST, CutRequest
from bertstream.server.protocols.http.tasks.base import TaskRoute, Unit, by_counts, offset_unit_of, with_common
from bertstream.server.protocols.http.tasks.inputs import TextInputs, texts_of
from bertstream.server.protocols.http.tasks.models import ENTITIES
from bertstream.v1 import tasks_pb2


class EntitiesRequest(CutRequest, kw_only=True):
    """The body of `/v1/entities`."""

    inputs: TextInputs
    aggregation: Aggregation | None = None  # null: "simple"
    ignored_labels: list[str] | None = None  # an empty list ignores none; null ignores "O"
    windows: bool = False
    stride: Annotated[int, Meta(ge=0, le=MOST)] | None = None
    offset_unit: Unit = "code_points"
    labels: list[str] | None = None  # for a model that reads them with the text, as are the next three
    threshold: float | None = None  # null: 0.5
    nested: bool = False
    multi_label: bool = False


def _aggregation(request: EntitiesRequest) -> tasks_pb2.AggregationStrategy.ValueType:
    if request.aggregation is None:
        return tasks_pb2.AGGREGATION_STRATEGY_UNSPECIFIED
    value: tasks_pb2.AggregationStrategy.ValueType = value_of(AGGREGATIONS, request.aggregation)
    return value


def _options(request: EntitiesRequest) -> tasks_pb2.ClassifyTokenOptions:
    options = tasks_pb2.ClassifyTokenOptions(
        aggregation=_aggregation(request),
        ignored_labels=request.ignored_labels or (),
        keep_all_labels=request.ignored_labels == [],
        windows=request.windows,
        stride=request.stride,
        offset_unit=offset_unit_of(request.offset_unit),
        labels=request.labels or (),
        threshold=request.threshold,
        nested=request.nested,
        multi_label=request.multi_label,
    )
    return with_common(options, request)


def _items(request: EntitiesRequest, max_texts: int) -> SentItems:
    return texts_of(request.inputs, "inputs", max_texts)


def _entries(request: EntitiesRequest, answer: Entities) -> Sequence[Any]:
    """Return the entities of each text in their order, or without aggregation its tokens, with their index."""
    name = "entity" if request.aggregation == "none" else "entity_group"
    starts, ends = (np.asarray(each).tolist() for each in (answer.starts, answer.ends))
    columns = zip(answer.labels, answer.scores, answer.words, starts, ends, strict=True)
    found: list[Mapping[str, Any]] = [
        {name: label, "score": score, "word": word, "start": start, "end": end}
        for label, score, word, start, end in columns
    ]
    if request.aggregation == "none":
        pairs = zip(found, np.asarray(answer.token_indexes).tolist(), strict=True)
        found = [{**token, "index": index} for token, index in pairs]
    return by_counts(found, answer.entity_counts.tolist())


ROUTE = TaskRoute(
    "/v1/entities",
    "Find the entities of texts, such as names of people and places.",
    EntitiesRequest,
    ENTITIES,
    _options,
    parse_entities,
    _items,
    _entries,
    example={"inputs": "Angela lives in Berlin."},
    answer=[
        {"entity_group": "PER", "score": 0.998, "word": "Angela", "start": 0, "end": 6},
        {"entity_group": "LOC", "score": 0.999, "word": "Berlin", "start": 16, "end": 22},
    ],
)
