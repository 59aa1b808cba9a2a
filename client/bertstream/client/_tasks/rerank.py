"""The task "rerank": documents by their relevance to a query."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bertstream.client._calls.keywords import StreamOptions
from bertstream.client._calls.limits import unary_limits
from bertstream.client._calls.models import Descriptions
from bertstream.client._calls.unary_calls import Operation, fan_out
from bertstream.client._columns import check
from bertstream.client._errors import unexpected_response
from bertstream.client._fields import optional_whole, set_fields
from bertstream.client._reports import ReportOption, check_report, report_answer
from bertstream.client._tasks.items import given_documents, preparing
from bertstream.client._tasks.labels import ScoreFunction, function_of
from bertstream.client._tasks.options import TaskOptions, WindowOptions, with_windows
from bertstream.client._tasks.reports import effective_task_options
from bertstream.client._tasks.task import Task
from bertstream.client._texts import NO_ROOT, Group, refusal, utf8_size
from bertstream.v1 import tasks_pb2 as tasks


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document and its relevance to a query."""

    index: int
    """The document's index in the caller's list."""
    score: float
    document: str


class RankOptions(TaskOptions, WindowOptions, total=False):
    """Keyword arguments of `rerank`, also in a stream: those of TaskOptions and WindowOptions, and these."""

    function: ScoreFunction | None
    """softmax, sigmoid or none; None for the checkpoint's, else sigmoid for one label and softmax for several."""
    label: str
    """The label whose score counts, where the checkpoint has several."""


class RerankOptions(RankOptions, total=False):
    """Keyword arguments of `rerank`: those of RankOptions, and `top_k`."""

    top_k: int | None
    """How many of the best documents to return; None for all."""


class RerankStream(StreamOptions, RankOptions, total=False):
    """Keyword arguments of a stream of "rerank"."""


def rerank_task(*, top_k: None = None, **given: Any) -> Task[float]:
    """Return the task of a stream of pairs, each of which gets a score.

    Raises ValueError or TypeError for unusable values.
    """
    if top_k is not None:
        raise ValueError("top_k is not for streams: each document gets its score")
    return Task(
        rerank_options(**given),
        tasks.RerankTextsRequest,
        tasks.Relevances,
        preparing("rerank", ("pairs",)),
        relevances_of,
    )


def rerank(
    known: Descriptions, query: str, documents: Iterable[str], report: ReportOption, **given: Any
) -> Operation[list[Ranked]]:
    """Return the documents, the most relevant first; equal ones stay in their order."""
    check_report(report)
    options, prepared = rerank_options(**given), given_documents(documents)
    limits = yield from unary_limits(known, options.model, prepared)
    limits = limits._replace(bytes=max(1, limits.bytes - _query_size(query)))
    found: list[Ranked] = []

    def request(group: Group) -> tasks.RerankTextsRequest:
        return tasks.RerankTextsRequest(options=options, query=query, documents=group.values)

    def take(group: Group, response: tasks.RerankTextsResponse) -> None:
        found.extend(_ranked(group, response))
        report_answer(report, response, effective_task_options)

    yield fan_out("RerankTexts", prepared, limits, request, take, NO_ROOT)
    found.sort(key=lambda ranked: -ranked.score)
    return found[: options.top_k or None]


def rerank_options(
    *, function: ScoreFunction | None = None, label: str = "", top_k: int | None = None, **given: Any
) -> tasks.RerankOptions:
    """Return the message for RerankOptions. Raises ValueError or TypeError for unusable values."""
    options = tasks.RerankOptions(function=function_of(function))
    set_fields(options, label=label, top_k=optional_whole(top_k, "top_k", 1))
    return with_windows(options, **given)


def relevances_of(message: tasks.Relevances, items: int) -> list[float]:
    """Return the score of each pair of query and document."""
    check(message.scores, items, "scores")
    return list(message.scores)


def _query_size(query: object) -> int:
    if not isinstance(query, str):
        raise TypeError(f"query must be a str, not {type(query).__name__}")
    try:
        return utf8_size(query)
    except UnicodeEncodeError as error:
        raise refusal(error, "query") from None


def _ranked(group: Group, response: tasks.RerankTextsResponse) -> list[Ranked]:
    places, scores = response.document_indexes, response.scores
    if len(places) != len(scores) or any(not 0 <= place < len(group.values) for place in places):
        raise unexpected_response(f"{len(scores)} scores of {len(group.values)} documents")
    return [
        Ranked(group.indexes[place], score, group.values[place]) for place, score in zip(places, scores, strict=True)
    ]
