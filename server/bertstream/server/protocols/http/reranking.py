"""Scores of documents for a query, whichever API asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bertstream.server.core.models import ServedModel
from bertstream.server.core.sent import Sent, SentItems
from bertstream.server.core.tasks.calls import answer_items, prepare_items
from bertstream.server.core.tasks.labels import Relevances, RerankTexts, sort_documents
from bertstream.server.core.tasks.similarities import RerankBySimilarity
from bertstream.server.core.tokenization import Pairs, Truncation
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.texts import check_count
from bertstream.server.protocols.tei_v1.defaults import rerank_task
from bertstream.workers.contract import INTERACTIVE


@dataclass(frozen=True, slots=True)
class Ranking:
    """The documents in their new order."""

    indexes: Sequence[int]  # best first
    scores: Sequence[float]  # of these
    tokens: int  # that were computed


async def ranked(
    model: ServedModel,
    query: str,
    texts: Sequence[str],
    path: str,
    call: HttpCall,
    cut: Truncation,
    *,
    raw: bool = False,
    top: int = 0,
) -> Ranking:
    """Return the best `top` texts, 0 for all, which are at this path of the body; equal ones stay in their order.

    raw: whether scores are logits rather than their sigmoid.
    """
    check_count(len(texts), path, model.limits.max_texts)

    pairs = Sent(Pairs([query] * len(texts), texts), path, path, of_pairs=("query", f"{path}[]"))

    def begin() -> tuple[RerankTexts | RerankBySimilarity, SentItems]:
        return rerank_task(model, cut, INTERACTIVE, raw=raw), pairs

    def sort(answer: Relevances) -> tuple[list[int], list[float]]:
        return sort_documents(answer, top)

    model.check_room(call.caller, call.deadline)
    prepared = await prepare_items(model, begin, "send fewer documents")
    answered = await answer_items(model, prepared, sort, call)
    return Ranking(*answered.written, prepared.tokens)
