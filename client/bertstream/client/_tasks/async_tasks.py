# ruff: noqa: ASYNC109 - a timeout here is the deadline that the server gets to know
"""The task heads' methods of the asynchronous client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Unpack, overload

from bertstream.client._reports import ReportOption
from bertstream.client._tasks import heads as tasks
from bertstream.client._tasks import operations
from bertstream.client._tasks.async_predictions import AsyncPredictionMethods
from bertstream.client._tasks.calls import AnswerCall, ClassifyCall, EntityCall, FillMaskCall, TaskCall, ZeroShotCall
from bertstream.client._tasks.items import Given, Pair, Question, given_choices, given_pairs, given_texts
from bertstream.client._tasks.options import (
    AnswerOptions,
    ClassifyOptions,
    EntityOptions,
    FillMaskOptions,
    RerankOptions,
    TaskOptions,
    ZeroShotOptions,
)
from bertstream.client._tasks.types import Answer, Candidate, Entity, Label, Ranked, TextScore
from bertstream.client._texts import Text
from bertstream.client._types import Tokens

# A str is an iterable of str too, and a pair one of texts, but the overload for one item comes first.
# mypy: disable-error-code="overload-overlap"


class AsyncTaskMethods(AsyncPredictionMethods):
    """What a client asks of a model's task heads; a part of AsyncClient."""

    @overload
    async def fill_mask(self, texts: str | Tokens, **options: Unpack[FillMaskCall]) -> list[list[Candidate]]: ...
    @overload
    async def fill_mask(
        self, texts: Iterable[Text], **options: Unpack[FillMaskCall]
    ) -> list[list[list[Candidate]]]: ...
    async def fill_mask(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[FillMaskOptions],
    ) -> Any:
        """See Client.fill_mask."""
        return await self._predict(tasks.fill_mask(**options), given_texts(texts), report, timeout)

    @overload
    async def score_text(self, texts: str | Tokens, **options: Unpack[TaskCall]) -> TextScore: ...
    @overload
    async def score_text(self, texts: Iterable[Text], **options: Unpack[TaskCall]) -> list[TextScore]: ...
    async def score_text(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """See Client.score_text."""
        return await self._predict(tasks.score_text(**options), given_texts(texts), report, timeout)

    @overload
    async def next_sentence(self, first: str, second: str, **options: Unpack[TaskCall]) -> float: ...
    @overload
    async def next_sentence(self, first: Pair | Tokens, second: None = None, **options: Unpack[TaskCall]) -> float: ...
    @overload
    async def next_sentence(
        self, first: Iterable[Text], second: None = None, **options: Unpack[TaskCall]
    ) -> list[float]: ...
    async def next_sentence(
        self,
        first: str | Pair | Tokens | Iterable[Text],
        second: str | None = None,
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """See Client.next_sentence."""
        given = given_pairs(first, second, "a text and the one that may follow")
        return await self._predict(tasks.next_sentence(**options), given, report, timeout)

    @overload
    async def classify(self, texts: str | Pair | Tokens, **options: Unpack[ClassifyCall]) -> list[Label]: ...
    @overload
    async def classify(self, texts: Iterable[Text], **options: Unpack[ClassifyCall]) -> list[list[Label]]: ...
    async def classify(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[ClassifyOptions],
    ) -> Any:
        """See Client.classify."""
        return await self._predict(tasks.classify(**options), given_texts(texts, with_pairs=True), report, timeout)

    @overload
    async def zero_shot(self, texts: str, labels: Sequence[str], **options: Unpack[ZeroShotCall]) -> list[Label]: ...
    @overload
    async def zero_shot(
        self, texts: Iterable[str], labels: Sequence[str], **options: Unpack[ZeroShotCall]
    ) -> list[list[Label]]: ...
    async def zero_shot(
        self,
        texts: str | Iterable[str],
        labels: Sequence[str],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[ZeroShotOptions],
    ) -> Any:
        """See Client.zero_shot."""
        return await self._predict(tasks.zero_shot(labels=labels, **options), given_texts(texts), report, timeout)

    async def rerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[RerankOptions],
    ) -> list[Ranked]:
        """See Client.rerank."""
        known = self._transport.descriptions
        return await self._transport.run(operations.rerank(known, query, documents, report, **options), timeout)

    @overload
    async def entities(self, texts: str | Tokens, **options: Unpack[EntityCall]) -> list[Entity]: ...
    @overload
    async def entities(self, texts: Iterable[Text], **options: Unpack[EntityCall]) -> list[list[Entity]]: ...
    async def entities(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[EntityOptions],
    ) -> Any:
        """See Client.entities."""
        return await self._predict(tasks.entities(**options), given_texts(texts), report, timeout)

    @overload
    async def answer(
        self, question: str, context: str, *, top_k: None = None, **options: Unpack[AnswerCall]
    ) -> Answer: ...
    @overload
    async def answer(
        self, question: str, context: str, *, top_k: int, **options: Unpack[AnswerCall]
    ) -> list[Answer]: ...
    @overload
    async def answer(
        self, question: Pair, context: None = None, *, top_k: None = None, **options: Unpack[AnswerCall]
    ) -> Answer: ...
    @overload
    async def answer(
        self, question: Pair, context: None = None, *, top_k: int, **options: Unpack[AnswerCall]
    ) -> list[Answer]: ...
    @overload
    async def answer(
        self, question: Iterable[Pair], context: None = None, *, top_k: None = None, **options: Unpack[AnswerCall]
    ) -> list[Answer]: ...
    @overload
    async def answer(
        self, question: Iterable[Pair], context: None = None, *, top_k: int, **options: Unpack[AnswerCall]
    ) -> list[list[Answer]]: ...
    async def answer(
        self,
        question: str | Pair | Iterable[Pair],
        context: str | None = None,
        *,
        top_k: int | None = None,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[AnswerOptions],
    ) -> Any:
        """See Client.answer."""
        given = given_pairs(question, context, "a question and its context")
        return await self._predict(tasks.answer(top_k=top_k, **options), given, report, timeout)

    @overload
    async def choose(self, prompt: str, choices: Sequence[str], **options: Unpack[TaskCall]) -> list[float]: ...
    @overload
    async def choose(self, prompt: Question, choices: None = None, **options: Unpack[TaskCall]) -> list[float]: ...
    @overload
    async def choose(
        self, prompt: Iterable[Question], choices: None = None, **options: Unpack[TaskCall]
    ) -> list[list[float]]: ...
    async def choose(
        self,
        prompt: str | Question | Iterable[Question],
        choices: Sequence[str] | None = None,
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """See Client.choose."""
        return await self._predict(tasks.choose(**options), given_choices(prompt, choices), report, timeout)

    async def _predict(self, task: tasks.Task[Any], given: Given, report: ReportOption, timeout: float | None) -> Any:
        known = self._transport.descriptions
        return await self._transport.run(operations.predict(known, task, given, report), timeout)
