"""Give the scores of texts for a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bertstream.server.core.errors import invalid, too_large
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.sent import Sent, SentItems
from bertstream.server.core.tasks.calls import answer_items, prepare_items
from bertstream.server.core.tasks.labels import Relevances, RerankTexts, sort_documents
from bertstream.server.core.tasks.similarities import RerankBySimilarity
from bertstream.server.core.tokenization import Pairs
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.ordered import Group, alone
from bertstream.server.protocols.rpc import Handler
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.choosing import RERANKER
from bertstream.server.protocols.tei_v1.defaults import rerank_task
from bertstream.server.protocols.tei_v1.serving import Operation, Turn, checked
from bertstream.server.protocols.tei_v1.validation import Rerankable, truncation_of

_OF_ALL = ("truncate", "truncation_direction")  # without which the texts of a stream would not be comparable


def handlers(models: Models) -> dict[str, Handler]:
    """Return the handler of each rpc."""

    async def rerank_stream(stream: Stream[tei_pb2.RerankStreamRequest], call: Call) -> tei_pb2.RerankResponse:
        turn = Turn(RERANKER.choose(models, call), call, call.arrived)
        requests = await _read(stream, turn.model)
        queries, texts = [each.query for each in requests], [each.text for each in requests]
        group = await _scores(requests[0], queries, texts, turn)
        return (await group.answer(0, 1)).good[0]

    return {"Rerank": Operation(models, RERANKER, rerank, together=False).one, "RerankStream": rerank_stream}


async def rerank(messages: Sequence[tei_pb2.RerankRequest], turn: Turn) -> Group[tei_pb2.RerankResponse]:
    """Prepare the texts of one request for their scores."""
    (message,) = messages
    texts = list(message.texts)
    if not texts:
        raise invalid("texts", "the list is empty", "INVALID_EMPTY_LIST")
    _check_count(len(texts), turn.model)
    return await _scores(message, [message.query] * len(texts), texts, turn)


async def _read(
    stream: Stream[tei_pb2.RerankStreamRequest], model: ServedModel
) -> Sequence[tei_pb2.RerankStreamRequest]:
    """Return all requests of a stream; together they have the limits of one request. Raises INVALID_ARGUMENT."""
    requests: list[tei_pb2.RerankStreamRequest] = []
    size = 0
    async for decoded in stream:
        request: tei_pb2.RerankStreamRequest = checked(decoded)
        requests.append(request)
        size += request.ByteSize()
        _check_count(len(requests), model)
        if size > (limit := model.limits.max_request_bytes):
            raise too_large("text", f"the requests have more than {limit} bytes together: send less at a time")
        for field in _OF_ALL:
            if getattr(request, field) != getattr(requests[0], field):
                raise invalid(field, "it differs from that of the stream's first request", "INVALID_COMBINATION")
    if not requests:
        raise invalid("text", "the stream had no request", "INVALID_EMPTY_LIST")
    return requests


def _check_count(texts: int, model: ServedModel) -> None:
    if texts > (most := model.limits.max_texts):
        raise too_large("texts", f"{texts} texts or more; the limit of one call is {most}")


async def _scores(
    options: Rerankable, queries: Sequence[str], texts: Sequence[str], turn: Turn
) -> Group[tei_pb2.RerankResponse]:
    model = turn.model

    def begin() -> tuple[RerankTexts | RerankBySimilarity, SentItems]:
        truncation = truncation_of(options, model.description)
        task = rerank_task(model, truncation, turn.priority, raw=options.raw_scores)
        paths = ("query" if isinstance(options, tei_pb2.RerankRequest) else "query[]", "texts[]")
        return task, Sent(Pairs(queries, texts), "texts", "texts", of_pairs=paths)

    def write(answer: Relevances) -> list[tei_pb2.Rank]:
        ranks = zip(*sort_documents(answer, 0), strict=True)
        shown: Any = texts if options.return_text else [None] * len(texts)
        return [tei_pb2.Rank(index=index, score=score, text=shown[index]) for index, score in ranks]

    turn.check_room()
    prepared = await prepare_items(model, begin, "send fewer texts")

    async def answer() -> tei_pb2.RerankResponse:
        answered = await answer_items(model, prepared, write, turn.call, waits=turn.waits)
        characters = sum(map(len, queries)) + sum(map(len, texts))
        metadata = turn.metadata(prepared.tokenize_seconds, answered.outcomes)
        metadata.compute_chars, metadata.compute_tokens = characters, prepared.tokens
        return tei_pb2.RerankResponse(ranks=answered.written, metadata=metadata)

    return alone(prepared.tokens, answer)
