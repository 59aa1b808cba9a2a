"""TaskService."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bertstream.server.core.computing import check_answer_size
from bertstream.server.core.errors import invalid, too_large
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.sent import Sent, SentItems
from bertstream.server.core.tasks.base import Task
from bertstream.server.core.tasks.calls import answer_items, prepare_items
from bertstream.server.core.tasks.labels import Relevances, sort_documents
from bertstream.server.core.tokenization import Pairs
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.server.protocols.bertstream_v1.services.predictions import stream_predictions
from bertstream.server.protocols.bertstream_v1.tasks.asked import Parse
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
_ADVICE = "use StreamPredictions"


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
        pairs = Pairs([message.query] * len(documents), documents)
        sent = Sent(pairs, "documents", "documents", of_pairs=("query", "documents[]"))
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
    effective: list[Message] = []

    def begin() -> tuple[Task[Any], SentItems]:
        asked = parse(options, model, INTERACTIVE, "options")
        effective.append(asked.effective)
        return asked.task, items(asked.task)

    model.check_room(call.caller, call.deadline)
    prepared = await prepare_items(model, begin, _ADVICE)
    answered = await answer_items(model, prepared, write, call)
    check_answer_size(answered.written.ByteSize(), model.limits, prepared.sent.path, _ADVICE)
    usage = wire.usage(prepared.items, prepared.tokens, int(prepared.rows.truncated.sum()))
    timings = wire.timings_of(prepared.tokenize_seconds, call.arrived, answered.outcomes)
    return Predicted(effective[0], answered.answer, answered.written, usage, timings)


def _place_of_document(bad: BadString) -> BadString:
    return BadString(f"documents[{bad.index}]", 0) if bad.path == "documents" else bad
