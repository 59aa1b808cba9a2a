"""EncodingService."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

import numpy as np

from bertstream.server import errors, wire
from bertstream.server.dispatch import Job, Outcome, cut
from bertstream.server.errors import RequestError, Violation
from bertstream.server.model import Models, ServedModel, Timed
from bertstream.server.rpc import Call, Decoded, Stream
from bertstream.server.streams import Answer, BulkStream, Items, first_message, item_error
from bertstream.server.tokenization import Tokenized
from bertstream.server.validation.encoding import EncodingPlan, parse_encoding
from bertstream.server.validation.inputs import not_utf8, parse_inputs, refuse_bad_strings, text_path
from bertstream.server.validation.tokenization import text_error
from bertstream.v1 import encoding_pb2, types_pb2
from bertstream.workers.contract import BULK, INTERACTIVE, Batch
from bertstream.workers.ragged import rows_of, starts_of

AnswerOf = Answer[encoding_pb2.StreamEncodingsResponse]


class EncodingService:
    """Text to vectors."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def encode_texts(
        self, request: Decoded[encoding_pb2.EncodeTextsRequest], call: Call
    ) -> encoding_pb2.EncodeTextsResponse:
        message = request.value()
        model = self._models.get(message.options.model)
        plan = parse_encoding(message.options, model.name, model.description, INTERACTIVE)
        refuse_bad_strings(message.inputs, request.bad_strings)
        model.admission.check()
        timed = await tokenize(model, plan, message.inputs, "inputs")
        refuse_failed_texts(timed.tokens, message.inputs, "inputs")
        _check_response(plan, timed.tokens, model)
        call.check_deadline()
        batch = as_batch(timed.tokens)
        with model.admission.unary(batch.ids.size):
            outcomes = await model.dispatcher.run(Job(batch, plan.wishes, plan.priority, call.deadline))
        return _response(plan, timed, outcomes, call)

    async def stream_encodings(self, stream: Stream[encoding_pb2.StreamEncodingsRequest], call: Call) -> None:
        messages = aiter(stream)
        options = await first_message(messages, "options")
        if options is None:
            return
        model = self._models.get(options.model)
        plan = parse_encoding(options, model.name, model.description, BULK)
        window = stream_window(model, plan)
        started = encoding_pb2.EncodingStarted(options=plan.effective, window=window)
        await stream.write(encoding_pb2.StreamEncodingsResponse(started=started))
        await _EncodingStream(model, plan, stream, call, window).run(messages)


class _EncodingStream:
    """One bulk stream: each message is tokenized, cut into slices that fit the window, and answered slice by slice."""

    def __init__(
        self,
        model: ServedModel,
        plan: EncodingPlan,
        stream: Stream[encoding_pb2.StreamEncodingsRequest],
        call: Call,
        window: types_pb2.StreamWindow,
    ) -> None:
        self._model = model
        self._plan = plan
        self._call = call
        self._slice_tokens = window.max_tokens
        self._bulk: BulkStream[encoding_pb2.StreamEncodingsResponse] = BulkStream(stream, call, window, self._handle)

    async def run(self, messages: AsyncIterator[Decoded[encoding_pb2.StreamEncodingsRequest]]) -> None:
        await self._bulk.run(messages, self._model.limits.max_texts)

    async def _handle(self, items: Items) -> AsyncIterator[AnswerOf]:
        arrived = time.monotonic()
        timed = await tokenize(self._model, self._plan, items.inputs, "items.inputs")
        tokens = timed.tokens
        failed = failed_texts(tokens, items)
        if failed:
            yield self._errors({items.ids[index]: error for index, error in failed.items()})
        good = np.array([i for i in tokens.text_indexes.tolist() if i not in failed], np.int64)
        batch = as_batch(tokens) if good.size == tokens.lengths.size else pick(tokens, good)
        for first, part in cut(batch, self._slice_tokens) if good.size else ():
            indexes = good[first : first + part.lengths.size]
            async for answer in self._slice(
                part, [items.ids[i] for i in indexes], tokens.truncated[indexes], timed, arrived
            ):
                yield answer

    async def _slice(
        self, batch: Batch, ids: Sequence[int], truncated: np.ndarray, timed: Timed, arrived: float
    ) -> AsyncIterator[AnswerOf]:
        """Computes some texts of a message. The window gets their tokens back once their answers are written."""
        plan, model = self._plan, self._model
        held = await self._bulk.tokens.acquire(int(batch.ids.size))
        async with model.admission.stream(int(batch.ids.size)):
            outcomes = await model.dispatcher.run(Job(batch, plan.wishes, plan.priority, self._call.deadline))
        for number, outcome in enumerate(outcomes, 1):
            spent = held if number == len(outcomes) else 0
            texts = slice(outcome.start, outcome.start + outcome.texts)
            if outcome.error is not None:
                _refuse_if_late(outcome.error)
                yield self._errors(dict.fromkeys(ids[texts], outcome.error), spent)
                continue
            for message, items, last in self._messages(outcome, batch.lengths[texts], ids[texts], truncated[texts]):
                message.timings.CopyFrom(
                    wire.timings(
                        timed.seconds, time.monotonic() - arrived, outcome.queue_seconds, outcome.compute_seconds
                    )
                )
                response = encoding_pb2.StreamEncodingsResponse(items=message)
                yield Answer(response, items, spent if last else 0)

    def _messages(
        self, outcome: Outcome, lengths: np.ndarray, ids: Sequence[int], truncated: np.ndarray
    ) -> list[tuple[encoding_pb2.EncodedItems, int, bool]]:
        """The messages of one outcome: each with the number of items that it completes, and whether it is the last."""
        split = list(wire.split_encodings(outcome.tensors, lengths, self._plan.row_bytes, self._plan.token_bytes))
        made = []
        for number, (first, last, encodings) in enumerate(split, 1):
            texts = slice(first, max(last, first + 1))
            message = encoding_pb2.EncodedItems(ids=ids[texts], encodings=encodings)
            if last > first:
                message.usage.CopyFrom(wire.usage(last - first, int(lengths[texts].sum()), int(truncated[texts].sum())))
            made.append((message, last - first, number == len(split)))
        return made

    def _errors(self, errors_by_id: dict[int, RequestError], tokens: int = 0) -> AnswerOf:
        listed = [item_error(item_id, error, self._call) for item_id, error in errors_by_id.items()]
        message = encoding_pb2.EncodedItems(errors=listed)
        return Answer(encoding_pb2.StreamEncodingsResponse(items=message), len(listed), tokens)


async def tokenize(model: ServedModel, plan: EncodingPlan, batch: types_pb2.TextBatch, path: str) -> Timed:
    """The tokens of a message's texts."""
    inputs = parse_inputs(batch, path, model.limits.max_texts)
    return await model.tokenize(inputs, plan.options_for(inputs), plan.prompt_for(inputs))


def failed_texts(tokens: Tokenized, items: Items) -> dict[int, RequestError]:
    """For streams: the error of each text, by its index, that could not be tokenized or is not UTF-8."""
    paths = {index: text_path(items.inputs, "items.inputs", index) for index in (*tokens.errors, *items.bad)}
    failed = {index: text_error(error, paths[index]) for index, error in tokens.errors.items()}
    return failed | {index: not_utf8(paths[index]) for index in items.bad}


def refuse_failed_texts(tokens: Tokenized, batch: types_pb2.TextBatch, path: str) -> None:
    """For unary calls: raises INVALID_ARGUMENT where any text could not be tokenized, naming each."""
    if tokens.errors:
        failed = [text_error(error, text_path(batch, path, index)) for index, error in sorted(tokens.errors.items())]
        listed: list[Violation] = [violation for error in failed for violation in error.violations]
        raise errors.invalid_fields(listed, failed[0].reason)


def as_batch(tokens: Tokenized) -> Batch:
    """All rows, as the workers take them."""
    return Batch(tokens.ids, tokens.lengths, tokens.type_ids)


def pick(tokens: Tokenized, texts: np.ndarray) -> Batch:
    """The rows of some texts; every text has one row, or none where it failed."""
    chosen = np.flatnonzero(np.isin(tokens.text_indexes, texts))
    lengths = tokens.lengths[chosen]
    rows = rows_of(starts_of(tokens.lengths)[chosen], lengths)
    return Batch(tokens.ids[rows], lengths, None if tokens.type_ids is None else tokens.type_ids[rows])


def stream_window(model: ServedModel, plan: EncodingPlan) -> types_pb2.StreamWindow:
    """What may be under way, so that neither items, nor tokens, nor bytes of answers exceed their bounds."""
    limits, tokens = model.limits, model.limits.stream_tokens
    if plan.token_bytes:
        tokens = min(tokens, max(limits.stream_bytes // plan.token_bytes, 1))
    return types_pb2.StreamWindow(max_items=limits.stream_items, max_tokens=tokens)


def _check_response(plan: EncodingPlan, tokens: Tokenized, model: ServedModel) -> None:
    size, limit = plan.response_bytes(tokens.lengths.size, tokens.ids.size), model.limits.max_response_bytes
    if size > limit:
        raise errors.too_large(
            "options.outputs", f"the answer would have {size} bytes, and the limit is {limit}: use StreamEncodings"
        )


def _response(
    plan: EncodingPlan, timed: Timed, outcomes: Sequence[Outcome], call: Call
) -> encoding_pb2.EncodeTextsResponse:
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    tokens, tensors = timed.tokens, wire.join([outcome.tensors for outcome in outcomes])
    return encoding_pb2.EncodeTextsResponse(
        options=plan.effective,
        encodings=wire.encodings(tensors, tokens.lengths, 0, tokens.lengths.size),
        usage=wire.usage(tokens.lengths.size, tokens.ids.size, int(tokens.truncated.sum())),
        timings=wire.timings(
            timed.seconds,
            time.monotonic() - call.arrived,
            max(outcome.queue_seconds for outcome in outcomes),
            max(outcome.compute_seconds for outcome in outcomes),
        ),
    )


def _refuse_if_late(error: RequestError) -> None:
    """A deadline is the stream's, not the item's."""
    if error.reason == "DEADLINE_EXCEEDED":
        raise error
