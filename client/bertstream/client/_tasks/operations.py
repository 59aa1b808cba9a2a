"""What the methods for task heads do, without any I/O: an operation, and the codec of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertstream.client._calls.answers import SmallAnswers, errors_of, item_ids
from bertstream.client._calls.codec import Answers, Started
from bertstream.client._calls.limits import unary_limits
from bertstream.client._calls.models import Descriptions
from bertstream.client._calls.requests import Delivery, StreamRequest
from bertstream.client._calls.unary_calls import Operation, fan_out
from bertstream.client._errors import RpcError, unexpected_response
from bertstream.client._reports import ReportOption, check_report, report_answer
from bertstream.client._tasks.batches import PredictedBatch
from bertstream.client._tasks.items import Given
from bertstream.client._tasks.registry import task_named
from bertstream.client._tasks.task import Task
from bertstream.client._texts import INPUTS, Group, PreparedText
from bertstream.client._usage import Cost, cost_of
from bertstream.v1 import tasks_pb2 as tasks


def predict(known: Descriptions, task: Task[Any], given: Given, report: ReportOption) -> Operation[Any]:
    """Return the answer for each item, or for the single item."""
    check_report(report)
    prepared = [task.prepare(item, index, INPUTS) for index, item in enumerate(given.items)]
    limits = yield from unary_limits(known, task.options.model, prepared)
    results: list[Any] = [None] * len(prepared)

    def take(group: Group, response: Any) -> None:
        for index, result in zip(group.indexes, task.answers(response, len(group.indexes)), strict=True):
            results[index] = result
        report_answer(report, response, task.effective)

    yield fan_out(task.rpc, prepared, limits, task.request, take)
    return results[0] if given.alone else results


def predict_request(name: str, delivery: Delivery, **given: Any) -> StreamRequest[PredictedBatch[Any]]:
    """Return the request of `predict_stream`."""
    task = task_named(name, given)
    rpc, model = PredictionStream.rpc, task.options.model
    return StreamRequest(rpc, model, lambda _: PredictionStream(task), delivery)


class PredictionStream(SmallAnswers):
    """The codec of a `BulkStream` for the answers of a task, as `predict_stream` returns them."""

    rpc = "StreamPredictions"

    def __init__(self, task: Task[Any]) -> None:
        self._task = task

    def options(self) -> tasks.StreamPredictionsRequest:
        return self._task.first_request()

    def prepare(self, text: object, index: int) -> PreparedText:
        return self._task.prepare(text, index, f"items.{self._task.field}.")

    def request(self, group: Group) -> tasks.StreamPredictionsRequest:
        return self._task.items(group, **item_ids(group))

    def parse(self, response: tasks.StreamPredictionsResponse) -> Started | Answers:
        match response.WhichOneof("event"):
            case "started":
                return Started(response.started.window.max_items, self._task.started(response.started))
            case "items":
                return self._answers(response.items)
        raise unexpected_response("a stream's message without an event")

    def batch(self, ids: list[int], outcomes: Sequence[Any], cost: Cost) -> PredictedBatch[Any]:
        good = [(item, result) for item, result in zip(ids, outcomes, strict=True) if not isinstance(result, RpcError)]
        good_ids = np.array([item for item, _ in good], np.int64)
        return PredictedBatch(good_ids, [result for _, result in good], errors_of(ids, outcomes), *cost)

    def _answers(self, items: tasks.PredictedItems) -> Answers:
        results = self._task.predictions(items)
        cost = cost_of(items) if items.HasField("usage") else None
        return Answers(list(zip(items.ids, results, strict=True)), items.errors, cost)
