"""What the task heads' methods do, without doing any I/O: operations as `_calls` runs them, and a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from bertstream.client._calls.answers import SmallAnswers, errors_of, item_ids
from bertstream.client._calls.limits import unary_limits
from bertstream.client._calls.models import Descriptions
from bertstream.client._calls.operations import Operation, fan_out
from bertstream.client._calls.requests import Delivery, StreamRequest
from bertstream.client._calls.stream import Answers, Started
from bertstream.client._errors import RpcError, unexpected_response
from bertstream.client._reports import ReportOption, tell
from bertstream.client._tasks.heads import Task, task_named
from bertstream.client._tasks.items import Given, given_documents
from bertstream.client._tasks.options import rerank_options
from bertstream.client._tasks.reports import effective_task_options
from bertstream.client._tasks.types import PredictedBatch, Ranked
from bertstream.client._texts import INPUTS, ITEMS, NO_ROOT, Group, PreparedText, utf8_size
from bertstream.client._usage import Cost, cost_of
from bertstream.v1 import tasks_pb2 as tasks

R = TypeVar("R")
ITEM_CHOICES = "items.choices."


def predict(known: Descriptions, task: Task[Any], given: Given, report: ReportOption) -> Operation[Any]:
    """The answer for each item, or that for the only one."""
    prepared = [task.prepare(item, index, INPUTS) for index, item in enumerate(given.items)]
    limits = yield from unary_limits(known, task.options.model, prepared)
    results: list[Any] = [None] * len(prepared)

    def take(group: Group, response: Any) -> None:
        for index, result in zip(group.indexes, task.answers(response, len(group.indexes)), strict=True):
            results[index] = result
        tell(report, response, effective_task_options)

    yield fan_out(task.wire.rpc, prepared, limits, task.request, take)
    return results[0] if given.alone else results


def rerank(
    known: Descriptions, query: str, documents: Iterable[str], report: ReportOption, **given: Any
) -> Operation[list[Ranked]]:
    """The documents, the most relevant first; of equal ones the first."""
    options, prepared = rerank_options(**given), given_documents(documents)
    limits = yield from unary_limits(known, options.model, prepared)
    limits = limits._replace(bytes=max(1, limits.bytes - _query_size(query)))
    found: list[Ranked] = []

    def request(group: Group) -> tasks.RerankTextsRequest:
        return tasks.RerankTextsRequest(options=options, query=query, documents=group.values)

    def take(group: Group, response: tasks.RerankTextsResponse) -> None:
        found.extend(_ranked(group, response))
        tell(report, response, effective_task_options)

    yield fan_out("RerankTexts", prepared, limits, request, take, NO_ROOT)
    found.sort(key=lambda ranked: -ranked.score)
    return found[: options.top_k or None]


def predict_request(name: str, delivery: Delivery, **given: Any) -> StreamRequest[PredictedBatch[Any]]:
    """For `predict_stream`."""
    task = task_named(name, given)
    rpc, model = PredictionStream.rpc, task.options.model
    return StreamRequest(rpc, model, lambda _: PredictionStream(task), delivery)


class PredictionStream(SmallAnswers):
    """The answers of a task, as `predict_stream` gives them; a codec for a `BulkStream`."""

    rpc = "StreamPredictions"

    def __init__(self, task: Task[Any]) -> None:
        self._task = task

    def options(self) -> tasks.StreamPredictionsRequest:
        return self._task.first_request()

    def prepare(self, text: object, index: int) -> PreparedText:
        return self._task.prepare(text, index, ITEM_CHOICES if self._task.name == "choose" else ITEMS)

    def request(self, group: Group) -> tasks.StreamPredictionsRequest:
        items = tasks.PredictionItems(**item_ids(group))
        if self._task.name == "choose":
            items.choices.CopyFrom(self._task.wire.inputs(group))
        else:
            items.inputs.CopyFrom(group.batch())
        return tasks.StreamPredictionsRequest(items=items)

    def parse(self, response: tasks.StreamPredictionsResponse) -> Started | Answers:
        match response.WhichOneof("event"):
            case "started":
                options = getattr(response.started.options, self._task.wire.option)
                return Started(response.started.window.max_items, effective_task_options(options))
            case "items":
                return self._answers(response.items)
        raise unexpected_response("a stream's message without an event")

    def batch(self, ids: list[int], outcomes: Sequence[Any], cost: Cost) -> PredictedBatch[Any]:
        good = [(item, result) for item, result in zip(ids, outcomes, strict=True) if not isinstance(result, RpcError)]
        kept = np.array([item for item, _ in good], np.int64)
        return PredictedBatch(kept, [result for _, result in good], errors_of(ids, outcomes), *cost)

    def _answers(self, items: tasks.PredictedItems) -> Answers:
        results = self._task.predictions(items)
        cost = cost_of(items) if items.HasField("usage") else None
        return Answers(list(zip(items.ids, results, strict=True)), items.errors, cost)


def _query_size(query: object) -> int:
    if not isinstance(query, str):
        raise TypeError(f"query must be a str, not {type(query).__name__}")
    return utf8_size(query)


def _ranked(group: Group, response: tasks.RerankTextsResponse) -> list[Ranked]:
    places, scores = response.document_indexes, response.scores
    if len(places) != len(scores) or any(not 0 <= place < len(group.values) for place in places):
        raise unexpected_response(f"{len(scores)} scores of {len(group.values)} documents")
    return [
        Ranked(group.indexes[place], score, group.values[place]) for place, score in zip(places, scores, strict=True)
    ]
