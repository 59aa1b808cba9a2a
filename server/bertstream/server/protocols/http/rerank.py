"""Cohere's and Jina's reranking, whose bodies and answers differ so little that one endpoint has the union of both.

Sources: https://docs.cohere.com/reference/rerank (v1 and v2), https://api.jina.ai/redoc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from msgspec import Struct

from bertstream.server.core.errors import invalid
from bertstream.server.core.models import Models
from bertstream.server.core.tokenization import Truncation
from bertstream.server.protocols.http.answers import HttpAnswer, answer_of
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.choosing import chosen
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.forms import rerank_form
from bertstream.server.protocols.http.reranking import Ranking, ranked
from bertstream.server.protocols.tei_v1.choosing import RERANKER

DEFAULT_NAMES = ("rerank-", "jina-reranker-", "jina-colbert-")  # how the names of their models begin
PATHS = {"/v1/rerank": "1", "/v2/rerank": "2"}  # and the version of Cohere's API that has it there


class Document(Struct):
    """A document with fields; all but its text is left out."""

    text: str


class RankDocumentsRequest(Struct):
    """The body of both APIs; what else clients send is ignored."""

    query: str
    documents: list[str | Document]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None


def endpoints(models: Models) -> Sequence[Endpoint]:
    """Return all endpoints."""
    about = "Sort documents by their scores for a query, as Cohere's and Jina's APIs do."
    example = {"query": "Where does the cat sleep?", "documents": ["It will rain.", "On the roof."], "top_n": 1}
    return [
        Endpoint(
            "POST",
            path,
            partial(rank_documents, models, version),
            rerank_form,
            about,
            RankDocumentsRequest,
            example=example,
        )
        for path, version in PATHS.items()
    ]


async def rank_documents(models: Models, version: str, request: RankDocumentsRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the best documents; a text that is too long is cut, as both APIs do, and then as `RerankTexts`."""
    if request.top_n is not None and request.top_n < 1:
        raise invalid("top_n", "it must be at least 1", "INVALID_RANGE")
    model = chosen(models, call, request.model, RERANKER, DEFAULT_NAMES)
    texts = [each if isinstance(each, str) else each.text for each in request.documents]
    cut = Truncation("only_second", model.description.default_max_length)
    top = min(request.top_n or 0, len(texts))
    ranking = await ranked(model, request.query, texts, "documents", call, cut, top=top)
    shown = texts if request.return_documents else None
    return answer_of(
        {
            "id": call.request_id,
            "model": model.name,
            "results": list(_results(ranking, shown)),
            "usage": {"total_tokens": ranking.tokens, "prompt_tokens": ranking.tokens},
            "meta": {"api_version": {"version": version}},
        }
    )


def _results(ranking: Ranking, texts: Sequence[str] | None) -> Any:
    for index, score in zip(ranking.indexes, ranking.scores, strict=True):
        result: Mapping[str, Any] = {"index": index, "relevance_score": np.float32(score)}
        yield result if texts is None else {**result, "document": {"text": texts[index]}}
