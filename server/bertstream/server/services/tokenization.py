"""TokenizationService."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Mapping

import numpy as np

from bertstream.server import wire
from bertstream.server.errors import Violation, invalid, invalid_fields
from bertstream.server.model import Models, ServedModel, Timed
from bertstream.server.preparation import failed_texts, refuse_failed
from bertstream.server.rpc import Call, Decoded, Stream
from bertstream.server.selection import select_rows
from bertstream.server.streams import Answer, BulkStream, Items, first_message, item_error
from bertstream.server.tokenization import Ids, Tokenized
from bertstream.server.validation.inputs import parse_inputs, refuse_bad_strings
from bertstream.server.validation.tokenization import TokenizationPlan, parse_tokenization
from bertstream.v1 import tokenization_pb2, types_pb2

AnswerOf = Answer[tokenization_pb2.StreamTokenizationsResponse]


class TokenizationService:
    """Text to tokens and back, in the frontend alone."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def tokenize_texts(
        self, request: Decoded[tokenization_pb2.TokenizeTextsRequest], call: Call
    ) -> tokenization_pb2.TokenizeTextsResponse:
        message = request.value()
        refuse_bad_strings(message.inputs, request.bad_strings)
        model = self._models.get(message.options.model, call)
        plan = parse_tokenization(message.options, model.name, model.description)
        timed = await _tokenize(model, plan, message.inputs, "inputs")
        refuse_failed(failed_texts(timed.tokens, message.inputs, "inputs"))
        return tokenization_pb2.TokenizeTextsResponse(
            options=plan.effective,
            tokenizations=wire.tokenizations(timed.tokens, windows=plan.options.windows, type_ids=plan.type_ids),
            usage=_usage(timed.tokens),
            timings=wire.timings(timed.seconds, time.monotonic() - call.arrived),
        )

    async def stream_tokenizations(
        self, stream: Stream[tokenization_pb2.StreamTokenizationsRequest], call: Call
    ) -> None:
        messages = aiter(stream)
        options = await first_message(messages, "options")
        if options is None:
            return
        model = self._models.get(options.model, call)
        plan = parse_tokenization(options, model.name, model.description)
        window = types_pb2.StreamWindow(max_items=model.limits.stream_items, max_tokens=model.limits.stream_tokens)
        started = tokenization_pb2.TokenizationStarted(options=plan.effective, window=window)
        await stream.write(tokenization_pb2.StreamTokenizationsResponse(started=started))

        async def handle(items: Items) -> AsyncIterator[AnswerOf]:
            arrived = time.monotonic()
            timed = await _tokenize(model, plan, items.inputs, "items.inputs")
            yield _answer(plan, timed, items, call, arrived)

        await BulkStream(stream, call, window, handle).run(messages, model.limits.max_texts)

    async def detokenize_tokens(
        self, request: Decoded[tokenization_pb2.DetokenizeTokensRequest], call: Call
    ) -> tokenization_pb2.DetokenizeTokensResponse:
        message = request.value()
        refuse_bad_strings(types_pb2.TextBatch(), request.bad_strings)
        model = self._models.get(message.model, call)
        inputs = parse_inputs(types_pb2.TextBatch(token_ids=message.token_ids), "", model.limits.max_texts)
        if message.token_ids.token_type_ids:
            raise invalid("token_ids.token_type_ids", "it must be empty", "INVALID_COMBINATION")
        assert isinstance(inputs, Ids)
        done = await model.detokenize(inputs, message.skip_special_tokens)
        if done.errors:
            listed = [Violation(f"token_ids[{i}]", error.message) for i, error in sorted(done.errors.items())]
            raise invalid_fields(listed, next(iter(done.errors.values())).reason)
        return tokenization_pb2.DetokenizeTokensResponse(model=model.name, texts=done.texts)


async def _tokenize(model: ServedModel, plan: TokenizationPlan, batch: types_pb2.TextBatch, path: str) -> Timed:
    inputs = parse_inputs(batch, path, model.limits.max_texts)
    return await model.tokenize(inputs, plan.options_for(inputs))


def _answer(plan: TokenizationPlan, timed: Timed, items: Items, call: Call, arrived: float) -> AnswerOf:
    """The answer to one message. Texts are counted anew, without those that failed, so that ids and rows agree."""
    tokens = timed.tokens
    failed = failed_texts(tokens, items.inputs, "items.inputs", items.bad)
    good = [index for index in range(len(items.ids)) if index not in failed]
    if failed:
        tokens = without_rows_of(tokens, failed, good)
    message = tokenization_pb2.TokenizedItems(
        ids=[items.ids[index] for index in good],
        tokenizations=wire.tokenizations(tokens, windows=plan.options.windows, type_ids=plan.type_ids),
        errors=[item_error(items.ids[index], error, call) for index, error in sorted(failed.items())],
        usage=_usage(tokens),
        timings=wire.timings(timed.seconds, time.monotonic() - arrived),
    )
    return Answer(tokenization_pb2.StreamTokenizationsResponse(items=message), len(items.ids))


def without_rows_of(tokens: Tokenized, failed: Mapping[int, object], good: list[int]) -> Tokenized:
    """The other texts' rows, with text indexes that count only those."""
    kept = select_rows(tokens, np.flatnonzero(~np.isin(tokens.text_indexes, list(failed))))
    new_index = np.searchsorted(good, kept.text_indexes).astype(np.int32)
    return dataclasses.replace(kept, text_indexes=new_index, truncated=tokens.truncated[good], errors={})


def _usage(tokens: Tokenized) -> types_pb2.Usage:
    return wire.usage(tokens.truncated.size, tokens.ids.size, int(tokens.truncated.sum()))
