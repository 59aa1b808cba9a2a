"""TaskService."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bertstream.server.core import tracing
from bertstream.server.core.computing import raise_first
from bertstream.server.core.dispatch import Job
from bertstream.server.core.errors import invalid, too_large
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.preparation import refuse_failed
from bertstream.server.core.sent import Sent, SentItems
from bertstream.server.core.tasks.base import Rows, Share, Task
from bertstream.server.core.tasks.gathering import gather
from bertstream.server.core.tasks.labels import Relevances, sort_documents
from bertstream.server.core.tokenization import Pairs
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.server.protocols.bertstream_v1.services.predictions import stream_predictions
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked, Parse
from bertstream.server.protocols.bertstream_v1.tasks.items import batch_of, items_for
from bertstream.server.protocols.bertstream_v1.tasks.labels import parse_rerank
from bertstream.server.protocols.bertstream_v1.tasks.registry import SERVICE, TASKS, tasks_by_rpc
from bertstream.server.protocols.bertstream_v1.tasks.writing import put, write
from bertstream.server.protocols.bertstream_v1.validation.inputs import refuse_bad_strings
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.rpc import Handler
from bertstream.server.protocols.utf8 import BadString
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE

Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Predicted:
    """The answer to a unary call, and the fields that go with it."""

    effective: Message
    answer: object
    message: Message  # the answer as the protocol has it
    usage: types_pb2.Usage
    timings: types_pb2.Timings

    def fill(self, response: Response) -> Response:
        """Write the answer and all other fields into a response, whose fields have the same names."""
        put(response, self.message)
        return self.fill_rest(response)

    def fill_rest(self, response: Response) -> Response:
        """Write all fields but the answer into a response."""
        for name, value in (("options", self.effective), ("usage", self.usage), ("timings", self.timings)):
            getattr(response, name).CopyFrom(value)
        return response


class TaskService:
    """Answers of task heads."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each rpc. All unary ones are served alike, except for RerankTexts."""
        alike = {rpc: self._unary(rpc, TASKS[task]) for rpc, task in tasks_by_rpc().items()}
        return {**alike, "RerankTexts": self.rerank_texts, "StreamPredictions": self.stream_predictions}

    def _unary(self, rpc: str, parse: Parse) -> Handler:
        """Serve a task whose requests have `options` and `inputs`."""
        response = GetMessageClass(SERVICE.methods_by_name[rpc].output_type)

        async def answer(request: Decoded[Any], call: Call) -> Message:
            message = request.value()
            inputs, field = batch_of(message.inputs)
            refuse_bad_strings(inputs, request.bad_strings, at=(lambda i: f"{field}[{i}]") if field else None)
            model = self._models.get(message.options.model, call.until_end, call.caller)
            predicted = await predict(
                model, parse, message.options, lambda task: items_for(task, inputs, field=field), call
            )
            return predicted.fill(response())

        return answer

    async def rerank_texts(
        self, request: Decoded[tasks_pb2.RerankTextsRequest], call: Call
    ) -> tasks_pb2.RerankTextsResponse:
        message = request.value()
        documents = list(message.documents)
        refuse_bad_strings(types_pb2.TextBatch(), map(_place_of_document, request.bad_strings))
        model = self._models.get(message.options.model, call.until_end, call.caller)
        if not documents:
            raise invalid("documents", "the list is empty", "INVALID_EMPTY_LIST")
        if len(documents) > (most := model.limits.max_texts):
            raise too_large("documents", f"{len(documents)} documents; the limit of one call is {most}")
        sent = Sent(Pairs([message.query] * len(documents), documents), "documents", "documents")
        predicted = await predict(model, parse_rerank, message.options, lambda _: sent, call)
        response = predicted.fill_rest(tasks_pb2.RerankTextsResponse())
        response.options.top_k = min(response.options.top_k or len(documents), len(documents))
        assert isinstance(predicted.answer, Relevances)
        indexes, scores = sort_documents(predicted.answer, response.options.top_k)
        response.document_indexes.extend(indexes)
        response.scores.extend(scores)
        return response

    async def stream_predictions(self, stream: Stream[tasks_pb2.StreamPredictionsRequest], call: Call) -> None:
        await stream_predictions(self._models, stream, call)


async def predict(
    model: ServedModel, parse: Parse, options: Message, items: Callable[[Task[Any]], SentItems], call: Call
) -> Predicted:
    """Run one unary call; `items` gives its items for the task that its options ask for."""

    def begin() -> tuple[Asked[Any, Any], SentItems, Rows[Any]]:
        asked = parse(options, model, INTERACTIVE, "options")
        sent = items(asked.task)
        return asked, sent, asked.task.prepare(sent)

    def end(share: Share) -> tuple[object, Message]:
        answer = task.answer(rows, share)
        return answer, write(answer)

    model.check_room(call.caller, call.deadline)
    started = time.monotonic()
    with tracing.span("tokenize") as span:
        asked, sent, rows = await model.in_thread(begin)
        span.set(texts=rows.truncated.size, tokens=rows.batch.ids.size)
    task = asked.task
    tokenize_seconds = time.monotonic() - started
    refuse_failed(rows.failed)
    _check_sizes(rows, model, sent)
    call.check_deadline()
    count, tokens = rows.items.size, int(rows.costs.sum())
    with model.admission.unary(tokens, call.caller, texts=rows.truncated.size):
        batch = task.expand(rows, 0, count)
        outcomes = await model.dispatcher.run(
            Job(batch, task.output_options, task.priority, call.deadline, call.caller)
        )
    raise_first(outcomes)
    with tracing.span("wire"):
        computed, _ = gather(rows, 0, count, batch, outcomes)
        answer, message = await model.in_thread(lambda: end(computed.whole()))
    _check_answer(message.ByteSize(), model, sent)
    usage = wire.usage(rows.truncated.size, tokens, int(rows.truncated.sum()))
    timings = wire.timings_of(tokenize_seconds, call.arrived, outcomes)
    return Predicted(asked.effective, answer, message, usage, timings)


def _check_sizes(rows: Rows[Any], model: ServedModel, sent: SentItems) -> None:
    """Raise REQUEST_TOO_LARGE, before any work is done, if the answer or the work would be too large."""
    if rows.least_bytes is not None:
        _check_answer(int(rows.least_bytes.sum()), model, sent)
    tokens, limit = int(rows.costs.sum()), model.limits.stream_tokens
    if rows.copies is not None and tokens > limit:
        about = f"the masked copies of these texts have {tokens} tokens, and the limit of one call is {limit}"
        raise too_large(sent.path, f"{about}: send fewer or shorter texts, or use StreamPredictions")


def _check_answer(size: int, model: ServedModel, sent: SentItems) -> None:
    if size > (limit := model.limits.max_response_bytes):
        about = f"the answer would have {size} bytes or more, and the limit is {limit}: use StreamPredictions"
        raise too_large(sent.path, about)


def _place_of_document(bad: BadString) -> BadString:
    return BadString(f"documents[{bad.index}]", 0) if bad.path == "documents" else bad
