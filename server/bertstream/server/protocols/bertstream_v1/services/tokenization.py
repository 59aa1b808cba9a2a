"""TokenizationService."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import numpy as np

from bertstream.server.core import tracing
from bertstream.server.core.computing import check_answer_size
from bertstream.server.core.errors import RequestError, Violation, invalid, invalid_fields
from bertstream.server.core.models import Models, Timed
from bertstream.server.core.plans import TokenizationPlan
from bertstream.server.core.preparation import failed_texts, refuse_failed
from bertstream.server.core.selection import select_rows
from bertstream.server.core.tokenization import Ids, Tokenized
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.server.protocols.bertstream_v1.streams import BulkStream, Items, Reply, first_message, item_error
from bertstream.server.protocols.bertstream_v1.validation.inputs import parse_inputs, parse_sent, refuse_bad_strings
from bertstream.server.protocols.bertstream_v1.validation.tokenization import parse_tokenization
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.v1 import tokenization_pb2, types_pb2
from bertstream.workers.ragged import pieces_of

_ANSWER_TOKENS = 1 << 15  # with all columns about 20 bytes each, so about 1 MiB at most
_ADVICE = "use StreamTokenizations"

AnswerOf = Reply[tokenization_pb2.StreamTokenizationsResponse]


class TokenizationService:
    """Text to tokens and back, in the frontend alone."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def tokenize_texts(
        self, request: Decoded[tokenization_pb2.TokenizeTextsRequest], call: Call
    ) -> tokenization_pb2.TokenizeTextsResponse:
        message = request.value()
        refuse_bad_strings(message.inputs, request.bad_strings)
        model = self._models.get(message.options.model, call.until_end, call.caller)
        plan = parse_tokenization(message.options, model.name, model.description)
        sent = parse_sent(message.inputs, "inputs", model.limits.max_texts)
        timed = await model.tokenize(sent.inputs, plan.options_for(sent.inputs))
        refuse_failed(failed_texts(timed.tokens, sent))
        # Before the message is made, too, as a token has at least a byte.
        check_answer_size(timed.tokens.ids.size, model.limits, "options.outputs", _ADVICE)
        with tracing.span("wire"):
            response = tokenization_pb2.TokenizeTextsResponse(
                options=plan.effective,
                tokenizations=wire.tokenizations(timed.tokens, windows=plan.options.windows, type_ids=plan.type_ids),
                usage=_usage(timed.tokens),
                timings=wire.timings(timed.seconds, time.monotonic() - call.arrived),
            )
        check_answer_size(response.ByteSize(), model.limits, "options.outputs", _ADVICE)
        return response

    async def stream_tokenizations(
        self, stream: Stream[tokenization_pb2.StreamTokenizationsRequest], call: Call
    ) -> None:
        messages = aiter(stream)
        options = await first_message(messages, "options")
        if options is None:
            return
        model = self._models.get(options.model, call.until_end, call.caller)
        plan = parse_tokenization(options, model.name, model.description)
        window = wire.window_of(model.limits)
        started = tokenization_pb2.TokenizationStarted(options=plan.effective, window=window)
        await stream.write(tokenization_pb2.StreamTokenizationsResponse(started=started))

        async def handle(items: Items) -> AsyncIterator[AnswerOf]:
            arrived = time.monotonic()
            sent = parse_sent(items.inputs, "items.inputs", model.limits.max_texts, items.bad)
            timed = await model.tokenize(sent.inputs, plan.options_for(sent.inputs))
            failed = failed_texts(timed.tokens, sent)
            for answer in _answers(plan, timed, items.ids, failed, call, arrived):
                yield answer

        await BulkStream(stream, call, window, handle).run(messages, model.limits.max_texts)

    async def detokenize_tokens(
        self, request: Decoded[tokenization_pb2.DetokenizeTokensRequest], call: Call
    ) -> tokenization_pb2.DetokenizeTokensResponse:
        message = request.value()
        refuse_bad_strings(types_pb2.TextBatch(), request.bad_strings)
        model = self._models.get(message.model, call.until_end, call.caller)
        inputs = parse_inputs(types_pb2.TextBatch(token_ids=message.token_ids), "", model.limits.max_texts)
        if message.token_ids.token_type_ids:
            raise invalid("token_ids.token_type_ids", "it must be empty", "INVALID_COMBINATION")
        assert isinstance(inputs, Ids)
        done = await model.detokenize(inputs, message.skip_special_tokens)
        if done.errors:
            listed = [Violation(f"token_ids[{i}]", error.message) for i, error in sorted(done.errors.items())]
            raise invalid_fields(listed, next(iter(done.errors.values())).reason)
        return tokenization_pb2.DetokenizeTokensResponse(model=model.name, texts=done.texts)


def _answers(
    plan: TokenizationPlan,
    timed: Timed,
    ids: Sequence[int],
    failed: Mapping[int, RequestError],
    call: Call,
    arrived: float,
) -> Iterator[AnswerOf]:
    """Yield the answers to one message, each for several texts or for one large text."""
    tokens = timed.tokens
    sizes = np.bincount(tokens.text_indexes, tokens.lengths, len(ids)).astype(np.int64)
    for first, last in pieces_of(sizes, _ANSWER_TOKENS):
        good = [index for index in range(first, last) if index not in failed]
        bad = [(ids[index], failed[index]) for index in range(first, last) if index in failed]
        yield _answer(plan, timed.seconds, _of_texts(tokens, good), [ids[i] for i in good], bad, call, arrived)


def _answer(
    plan: TokenizationPlan,
    seconds: float,
    tokens: Tokenized,
    ids: Sequence[int],
    failed: Sequence[tuple[int, RequestError]],
    call: Call,
    arrived: float,
) -> AnswerOf:
    message = tokenization_pb2.TokenizedItems(
        ids=ids,
        tokenizations=wire.tokenizations(tokens, windows=plan.options.windows, type_ids=plan.type_ids),
        errors=[item_error(item_id, error, call) for item_id, error in failed],
        usage=_usage(tokens),
        timings=wire.timings(seconds, time.monotonic() - arrived),
    )
    return Reply(tokenization_pb2.StreamTokenizationsResponse(items=message), len(ids) + len(failed))


def _of_texts(tokens: Tokenized, good: list[int]) -> Tokenized:
    """Return the rows of these texts, with indexes that count only these texts, so that ids and rows agree."""
    if len(good) == tokens.truncated.size:
        return tokens
    rows = select_rows(tokens, np.flatnonzero(np.isin(tokens.text_indexes, good)))
    new_index = np.searchsorted(good, rows.text_indexes).astype(np.int32)
    return dataclasses.replace(rows, text_indexes=new_index, truncated=tokens.truncated[good], errors={})


def _usage(tokens: Tokenized) -> types_pb2.Usage:
    return wire.usage(tokens.truncated.size, tokens.ids.size, int(tokens.truncated.sum()))
