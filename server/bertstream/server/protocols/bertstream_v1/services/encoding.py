"""EncodingService."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

import numpy as np

from bertstream.server.core import errors, tracing
from bertstream.server.core.computing import refuse_if_late
from bertstream.server.core.dispatch import Job, Outcome, cut
from bertstream.server.core.dispatch.cutting import part as part_of
from bertstream.server.core.encoding import Encoded, encode, output_bytes, window_costs
from bertstream.server.core.errors import RequestError
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.plans import EncodingPlan, WindowPlan
from bertstream.server.core.preparation import Prepared, prepare
from bertstream.server.core.selection import select_rows
from bertstream.server.core.splitting import Part, split
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.server.protocols.bertstream_v1.services.layers import stream_layers
from bertstream.server.protocols.bertstream_v1.services.windows import (
    gather_windows,
    merge,
    message_parts,
    windowed_parts,
)
from bertstream.server.protocols.bertstream_v1.streams import BulkStream, Items, Reply, first_message, item_error
from bertstream.server.protocols.bertstream_v1.validation.encoding import (
    AskedEncoding,
    parse_encoding,
    plan_of,
)
from bertstream.server.protocols.bertstream_v1.validation.inputs import parse_sent, refuse_bad_strings
from bertstream.server.protocols.bertstream_v1.validation.spans import spans_for
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.v1 import encoding_pb2, tokenization_pb2, types_pb2
from bertstream.workers.contract import BULK, Batch

AnswerOf = Reply[encoding_pb2.StreamEncodingsResponse]


class EncodingService:
    """Text to vectors."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def encode_texts(
        self, request: Decoded[encoding_pb2.EncodeTextsRequest], call: Call
    ) -> encoding_pb2.EncodeTextsResponse:
        message = request.value()
        refuse_bad_strings(message.inputs, request.bad_strings)
        model = self._models.get(message.options.model, call.until_end, call.caller)
        plan = plan_of(message.options, model)
        model.check_room(call.caller, call.deadline)
        sent = parse_sent(message.inputs, "inputs", model.limits.max_texts)
        spans = spans_for(plan, message.spans, sent.inputs, "spans")
        prepared = await prepare(model, plan, sent, spans)
        prepared.refuse_failed()
        shown = _tokens_within_limit(plan, prepared, model)
        encoded = await encode(model, plan, prepared, call)
        with tracing.span("wire"):
            if plan.windows is not None:
                return _windowed_response(plan, plan.windows, prepared, encoded, call)
            return _response(plan, prepared, encoded, call, shown)

    async def stream_encodings(self, stream: Stream[encoding_pb2.StreamEncodingsRequest], call: Call) -> None:
        messages = aiter(stream)
        options = await first_message(messages, "options")
        if options is None:
            return
        model = self._models.get(options.model, call.until_end, call.caller)
        plan = parse_encoding(options, model.name, model.description, BULK)
        window = wire.window_of(model.limits)
        started = encoding_pb2.EncodingStarted(options=plan.effective, window=window)
        await stream.write(encoding_pb2.StreamEncodingsResponse(started=started))
        await _EncodingStream(model, plan, stream, call, window).run(messages)

    async def stream_layers(
        self,
        request: Decoded[encoding_pb2.StreamLayersRequest],
        stream: Stream[encoding_pb2.StreamLayersResponse],
        call: Call,
    ) -> None:
        message = request.value()
        refuse_bad_strings(message.inputs, request.bad_strings)
        model = self._models.get(message.options.model, call.until_end, call.caller)
        await stream_layers(model, message, stream, call)


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
        self._window = window
        self._bulk: BulkStream[encoding_pb2.StreamEncodingsResponse] = BulkStream(stream, call, window, self._handle)

    async def run(self, messages: AsyncIterator[Decoded[encoding_pb2.StreamEncodingsRequest]]) -> None:
        await self._bulk.run(messages, self._model.limits.max_texts)

    async def _handle(self, items: Items) -> AsyncIterator[AnswerOf]:
        arrived = time.monotonic()
        sent = parse_sent(items.inputs, "items.inputs", self._model.limits.max_texts, items.bad)
        spans = spans_for(self._plan, items.spans, sent.inputs, "items.spans")
        prepared = await prepare(self._model, self._plan, sent, spans)
        if prepared.failed:
            yield self._errors([(items.ids[index], error) for index, error in sorted(prepared.failed.items())])
        if self._plan.windows is not None:
            async for answer in self._windowed(self._plan.windows, prepared, items.ids, arrived):
                yield answer
            return
        costs = window_costs(self._plan, prepared, self._model)
        for first, part in cut(prepared.batch, self._window.max_tokens, costs):
            last = first + part.lengths.size
            ids = [items.ids[text] for text in prepared.texts[first:last]]
            async for answer in self._slice(prepared, first, part, ids, int(costs[first:last].sum()), arrived):
                yield answer

    async def _windowed(
        self, windows: WindowPlan, prepared: Prepared, ids: Sequence[int], arrived: float
    ) -> AsyncIterator[AnswerOf]:
        """Compute the windows of some texts at a time, and answer for whole texts."""
        model, plan = self._model, self._plan
        for rows, cost in windowed_parts(prepared, window_costs(plan, prepared, model), self._window.max_tokens):
            held = await self._bulk.tokens.acquire(cost)
            batch = part_of(prepared.batch, rows.start, rows.stop)
            async with model.admission.stream(int(batch.ids.size), self._call.caller, texts=batch.lengths.size):
                job = Job(batch, prepared.output_options, plan.priority, self._call.deadline, self._call.caller)
                outcomes = await model.dispatcher.run(job)
            found = gather_windows(windows, prepared, rows, outcomes)
            for error in found.failed.values():
                refuse_if_late(error)
            if found.failed:
                failed = [(ids[text], error) for text, error in sorted(found.failed.items())]
                yield self._errors(failed, 0 if found.whole.texts.size else held)
            whole, tokens = found.whole, found.whole.layout.lengths
            for first, last in message_parts(whole) if whole.texts.size else ():
                message = encoding_pb2.EncodedItems(ids=[ids[text] for text in whole.texts[first:last].tolist()])
                wire.whole_texts(message.encodings, whole, first, last)
                message.usage.CopyFrom(wire.usage(last - first, int(tokens[first:last].sum()), 0))
                message.timings.CopyFrom(wire.timings_of(prepared.tokenize_seconds, arrived, outcomes))
                spent = held if last == whole.texts.size else 0
                yield Reply(encoding_pb2.StreamEncodingsResponse(items=message), last - first, spent)

    async def _slice(
        self, prepared: Prepared, first: int, batch: Batch, ids: Sequence[int], cost: int, arrived: float
    ) -> AsyncIterator[AnswerOf]:
        """Compute some texts of a message; their cost returns to the window once their answers are written."""
        plan, model = self._plan, self._model
        held = await self._bulk.tokens.acquire(cost)
        async with model.admission.stream(int(batch.ids.size), self._call.caller, texts=batch.lengths.size):
            outcomes = await model.dispatcher.run(
                Job(batch, prepared.output_options, plan.priority, self._call.deadline, self._call.caller)
            )
        for number, outcome in enumerate(outcomes, 1):
            spent = held if number == len(outcomes) else 0
            if outcome.error is not None:
                refuse_if_late(outcome.error)
                texts = slice(outcome.start, outcome.start + outcome.texts)
                yield self._errors([(item_id, outcome.error) for item_id in ids[texts]], spent)
                continue
            start = first + outcome.start
            layout = prepared.layout.part(start, start + outcome.texts)
            sizes = plan.sizes.of(layout.lengths, layout.span_counts)
            for part in split(outcome.tensors, layout, sizes):
                done = 0 if part.more else part.last - part.first
                over = not part.more and part.last == outcome.texts
                message = self._message(prepared, start, part, outcome, arrived)
                message.ids.extend(ids[outcome.start + part.first : outcome.start + part.last])
                yield Reply(encoding_pb2.StreamEncodingsResponse(items=message), done, spent if over else 0)

    def _message(
        self, prepared: Prepared, start: int, part: Part, outcome: Outcome, arrived: float
    ) -> encoding_pb2.EncodedItems:
        message = encoding_pb2.EncodedItems(more=part.more)
        wire.write_part(message.encodings, part)
        if part.rows is None and self._plan.shows_tokens:
            shown = shown_tokens(self._plan, prepared, start + part.first, start + part.last)
            message.encodings.tokens.CopyFrom(shown)
        if not part.more:
            rows = slice(start + part.first, start + part.last)
            tokens, truncated = int(prepared.batch.lengths[rows].sum()), int(prepared.truncated[rows].sum())
            message.usage.CopyFrom(wire.usage(part.last - part.first, tokens, truncated))
        message.timings.CopyFrom(wire.timings_of(prepared.tokenize_seconds, arrived, [outcome]))
        return message

    def _errors(self, failed: Sequence[tuple[int, RequestError]], tokens: int = 0) -> AnswerOf:
        listed = [item_error(item_id, error, self._call) for item_id, error in failed]
        message = encoding_pb2.EncodedItems(errors=listed)
        return Reply(encoding_pb2.StreamEncodingsResponse(items=message), len(listed), tokens)


def shown_tokens(plan: EncodingPlan, prepared: Prepared, first: int, last: int) -> tokenization_pb2.Tokenizations:
    """Return the requested columns of tokens."""
    tokens = select_rows(prepared.tokens, np.arange(first, last))
    return wire.tokenizations(tokens, type_ids=plan.type_ids, columns=plan.shown)


def _tokens_within_limit(
    plan: EncodingPlan, prepared: Prepared, model: ServedModel
) -> tokenization_pb2.Tokenizations | None:
    """Return the requested columns of tokens, None where none are requested.

    Raises REQUEST_TOO_LARGE where they and the outputs exceed the limit of an answer.
    """
    texts, limit, shown = prepared.batch.lengths.size, model.limits.max_response_bytes, None
    size = int(output_bytes(plan, prepared).sum())
    if plan.shows_tokens:
        if size + prepared.batch.ids.size <= limit:  # else too large in any case: a token has at least a byte
            shown = shown_tokens(plan, prepared, 0, texts)
        size += prepared.batch.ids.size if shown is None else shown.ByteSize()
    if size > limit:
        raise errors.too_large(
            "options.outputs", f"the answer would have {size} bytes, and the limit is {limit}: use StreamEncodings"
        )
    return shown


def _response(
    plan: AskedEncoding,
    prepared: Prepared,
    encoded: Encoded,
    call: Call,
    shown: tokenization_pb2.Tokenizations | None,
) -> encoding_pb2.EncodeTextsResponse:
    texts = prepared.batch.lengths.size
    response = encoding_pb2.EncodeTextsResponse(
        options=plan.effective,
        usage=wire.usage(texts, prepared.batch.ids.size, int(prepared.truncated.sum())),
        timings=wire.timings_of(prepared.tokenize_seconds, call.arrived, encoded.outcomes),
    )
    wire.encodings(response.encodings, encoded.tensors, prepared.layout, 0, texts)
    if shown is not None:
        response.encodings.tokens.CopyFrom(shown)
    return response


def _windowed_response(
    plan: AskedEncoding, windows: WindowPlan, prepared: Prepared, encoded: Encoded, call: Call
) -> encoding_pb2.EncodeTextsResponse:
    """Return the answer for texts that are read in windows, all of which are computed."""
    whole = merge(windows, encoded.tensors, prepared, slice(0, prepared.batch.lengths.size))
    texts = whole.texts.size
    response = encoding_pb2.EncodeTextsResponse(
        options=plan.effective,
        usage=wire.usage(texts, prepared.batch.ids.size, 0),
        timings=wire.timings_of(prepared.tokenize_seconds, call.arrived, encoded.outcomes),
    )
    wire.whole_texts(response.encodings, whole, 0, texts)
    return response
