"""StreamPredictions: a message becomes rows, is cut into slices that fit the window, and is answered item by item."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from bertstream.server.core import tracing
from bertstream.server.core.computing import refuse_if_late
from bertstream.server.core.dispatch import Job, Outcome
from bertstream.server.core.errors import RequestError, too_large
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.sent import SentItems, in_parts
from bertstream.server.core.splitting import MESSAGE_BYTES
from bertstream.server.core.tasks.base import Rows, Share, Task
from bertstream.server.core.tasks.gathering import Computed, gather, item_costs, tensor_sizes, window_costs
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.server.protocols.bertstream_v1.streams import BulkStream, Items, Reply, first_message, item_error
from bertstream.server.protocols.bertstream_v1.tasks.items import items_for
from bertstream.server.protocols.bertstream_v1.tasks.registry import TASKS, task_of
from bertstream.server.protocols.bertstream_v1.tasks.writing import put, write
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import BULK
from bertstream.workers.ragged import pieces_of

Requests = Stream[tasks_pb2.StreamPredictionsRequest]
AnswerOf = Reply[tasks_pb2.StreamPredictionsResponse]


async def stream_predictions(models: Models, stream: Requests, call: Call) -> None:
    """Serve one call of StreamPredictions."""
    messages = aiter(stream)
    options = await first_message(messages, "options")
    if options is None:
        return
    name = task_of(options)
    own = getattr(options, name)
    model = models.get(own.model, call.until_end, call.caller)
    asked = await model.in_thread(lambda: TASKS[name](own, model, BULK, f"options.{name}"))
    started = tasks_pb2.PredictionStarted(window=wire.window_of(model.limits))
    getattr(started.options, name).CopyFrom(asked.effective)
    await stream.write(tasks_pb2.StreamPredictionsResponse(started=started))
    await _PredictionStream(model, asked.task, f"options.{name}", stream, call).run(messages)


@dataclass(frozen=True, slots=True)
class _Message:
    """The rows of a message, or of a part of a long one."""

    sent: SentItems
    ids: Any  # of the items
    rows: Rows[Any]
    tokenize_seconds: float
    arrived: float


class _PredictionStream:
    """One stream, with the task that its options ask for."""

    def __init__(self, model: ServedModel, task: Task[Any], options: str, stream: Requests, call: Call) -> None:
        self._model = model
        self._task = task
        self._options = options  # the path of the task's options
        self._call = call
        self._window = wire.window_of(model.limits)
        self._sizes = tensor_sizes(task.output_options, model.description)
        self._bulk: BulkStream[tasks_pb2.StreamPredictionsResponse] = BulkStream(
            stream, call, self._window, self._handle
        )

    async def run(self, messages: AsyncIterator[Decoded[tasks_pb2.StreamPredictionsRequest]]) -> None:
        await self._bulk.run(messages, self._model.limits.max_texts)

    async def _handle(self, items: Items) -> AsyncIterator[AnswerOf]:
        arrived = time.monotonic()
        batch, path = (items.inputs, "items.inputs") if items.choices is None else (items.choices, "items.choices")
        sent = items_for(self._task, batch, path, items.bad, options=self._options)
        at_once = max(1, self._model.limits.max_texts // self._task.rows_per_item)
        for some in in_parts(sent, at_once):
            started = time.monotonic()
            with tracing.span("tokenize") as span:
                rows = await self._model.in_thread(partial(self._task.prepare, some), many=True)
                span.set(texts=rows.truncated.size, tokens=rows.batch.ids.size)
            ids = items.ids[some.offset : some.offset + rows.truncated.size]
            message = _Message(some, ids, rows, time.monotonic() - started, arrived)
            async for answer in self._message(message):
                yield answer

    async def _message(self, message: _Message) -> AsyncIterator[AnswerOf]:
        rows, limits = message.rows, self._model.limits
        if rows.failed:
            yield self._errors(message, rows.failed)
        starts, costs = item_costs(rows, window_costs(rows, self._sizes, limits.stream_tokens / limits.stream_bytes))
        ends = np.append(starts[1:], rows.items.size)
        for first, last in pieces_of(costs, self._window.max_tokens):
            cost = int(costs[first:last].sum())
            async for answer in self._slice(message, int(starts[first]), int(ends[last - 1]), cost):
                yield answer

    async def _slice(self, message: _Message, first: int, last: int, cost: int) -> AsyncIterator[AnswerOf]:
        """Compute all rows of some items; their cost returns to the window once the last answer is written."""
        task, model, rows = self._task, self._model, message.rows
        held = await self._bulk.tokens.acquire(cost)
        texts, tokens = np.unique(rows.items[first:last]).size, int(rows.costs[first:last].sum())
        async with model.admission.stream(tokens, self._call.caller, texts=texts):
            batch = task.expand(rows, first, last)
            job = Job(batch, task.output_options, task.priority, self._call.deadline, self._call.caller)
            outcomes = await model.dispatcher.run(job)
        computed, failed = gather(rows, first, last, batch, outcomes)
        for error in failed.values():
            refuse_if_late(error)
        waiting: AnswerOf | None = self._errors(message, failed) if failed else None
        for share in computed.shares(rows.least_bytes, MESSAGE_BYTES):
            async for answer in self._answers(message, computed, share, outcomes):
                if waiting is not None:
                    yield waiting
                waiting = answer
        assert waiting is not None  # every item of a slice has been answered or has failed
        yield replace(waiting, tokens=held)

    async def _answers(
        self, message: _Message, computed: Computed, share: Share, outcomes: list[Outcome]
    ) -> AsyncIterator[AnswerOf]:
        """Yield one answer, or several if one message would be too large."""
        answer = await self._model.in_thread(lambda: write(self._task.answer(message.rows, share)), many=True)
        size = answer.ByteSize()
        if size > MESSAGE_BYTES and share.items.size > 1:
            for half in computed.halves(share):
                async for part in self._answers(message, computed, half, outcomes):
                    yield part
            return
        if size > (limit := self._model.limits.max_response_bytes):
            item = int(share.items[0])
            about = f"its answer would have {size} bytes, and the limit is {limit}"
            yield self._errors(message, {item: too_large(message.sent.at(item), about)})
            return
        rows, items = message.rows, share.items
        predicted = tasks_pb2.PredictedItems(
            ids=[message.ids[item] for item in items.tolist()],
            usage=wire.usage(items.size, int(rows.costs[share.rows].sum()), int(rows.truncated[items].sum())),
            timings=wire.timings_of(message.tokenize_seconds, message.arrived, outcomes),
        )
        put(predicted, answer)
        yield Reply(tasks_pb2.StreamPredictionsResponse(items=predicted), items.size)

    def _errors(self, message: _Message, failed: Mapping[int, RequestError]) -> AnswerOf:
        listed = [item_error(message.ids[index], error, self._call) for index, error in sorted(failed.items())]
        items = tasks_pb2.PredictedItems(errors=listed)
        return Reply(tasks_pb2.StreamPredictionsResponse(items=items), len(listed))
