# ruff: noqa: ASYNC109 - a timeout here is the deadline that is sent to the server
"""The task heads' methods of the asynchronous client: a method and a stream's overload for each head."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, Unpack, overload

from bertstream.client._calls.progress import ProgressOption
from bertstream.client._calls.requests import Delivery, OnError
from bertstream.client._reports import ReportOption
from bertstream.client._sparse import SparseVector
from bertstream.client._tasks.answer import Answer, AnswerCall, AnswerOptions, AnswersStream, AnswerStream, answer_task
from bertstream.client._tasks.batches import PredictedBatch, R
from bertstream.client._tasks.choose import choose_task
from bertstream.client._tasks.classify import ClassifyCall, ClassifyOptions, ClassifyStream, classify_task
from bertstream.client._tasks.encode_sparse import (
    SparseCall,
    SparseOptions,
    SparseStream,
    encode_sparse_task,
)
from bertstream.client._tasks.entities import Entity, EntityCall, EntityOptions, EntityStream, entities_task
from bertstream.client._tasks.fill_mask import (
    Candidate,
    FillMaskCall,
    FillMaskOptions,
    FillMaskStream,
    fill_mask_task,
)
from bertstream.client._tasks.items import (
    Given,
    Pair,
    PredictionItem,
    Question,
    given_choices,
    given_pairs,
    given_texts,
)
from bertstream.client._tasks.labels import Label
from bertstream.client._tasks.next_sentence import next_sentence_task
from bertstream.client._tasks.operations import predict, predict_request
from bertstream.client._tasks.options import TaskCall, TaskOptions, TaskStream
from bertstream.client._tasks.rerank import Ranked, RerankOptions, RerankStream, rerank
from bertstream.client._tasks.score_text import TextScore, score_text_task
from bertstream.client._tasks.task import Task
from bertstream.client._tasks.zero_shot import ZeroShotCall, ZeroShotOptions, ZeroShotStream, zero_shot_task
from bertstream.client._texts import Text
from bertstream.client._transport.async_transport import AsyncTransport
from bertstream.client._types import Tokens

# A str is also an iterable of str, and a pair one of texts, but the overload for one item comes first.
# mypy: disable-error-code="overload-overlap"

I = TypeVar("I")  # noqa: E741 - an item

Batches: TypeAlias = AsyncGenerator[PredictedBatch[R], None]
Source: TypeAlias = Iterable[I] | AsyncIterable[I]
Texts: TypeAlias = Source[Text | tuple[int, Text]]
Pairs: TypeAlias = Source[Pair | tuple[int, Pair]]
Questions: TypeAlias = Source[Question | tuple[int, Question]]


class AsyncTaskMethods:
    """The methods of AsyncClient for task heads."""

    _transport: AsyncTransport

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
        return await self._predict(fill_mask_task(**options), given_texts(texts), report, timeout)

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
        return await self._predict(score_text_task(**options), given_texts(texts), report, timeout)

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
        return await self._predict(next_sentence_task(**options), given, report, timeout)

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
        return await self._predict(classify_task(**options), given_texts(texts, with_pairs=True), report, timeout)

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
        return await self._predict(zero_shot_task(labels=labels, **options), given_texts(texts), report, timeout)

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
        return await self._transport.run(rerank(known, query, documents, report, **options), timeout)

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
        return await self._predict(entities_task(**options), given_texts(texts), report, timeout)

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
        return await self._predict(answer_task(top_k=top_k, **options), given, report, timeout)

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
        return await self._predict(choose_task(**options), given_choices(prompt, choices), report, timeout)

    @overload
    async def encode_sparse(self, texts: str | Tokens, **options: Unpack[SparseCall]) -> SparseVector: ...
    @overload
    async def encode_sparse(self, texts: Iterable[Text], **options: Unpack[SparseCall]) -> list[SparseVector]: ...
    async def encode_sparse(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[SparseOptions],
    ) -> Any:
        """See Client.encode_sparse."""
        return await self._predict(encode_sparse_task(**options), given_texts(texts), report, timeout)

    @overload
    def predict_stream(
        self, task: Literal["fill_mask"], items: Texts, **options: Unpack[FillMaskStream]
    ) -> Batches[list[list[Candidate]]]: ...
    @overload
    def predict_stream(
        self, task: Literal["score_text"], items: Texts, **options: Unpack[TaskStream]
    ) -> Batches[TextScore]: ...
    @overload
    def predict_stream(
        self, task: Literal["next_sentence"], items: Texts, **options: Unpack[TaskStream]
    ) -> Batches[float]: ...
    @overload
    def predict_stream(
        self, task: Literal["classify"], items: Texts, **options: Unpack[ClassifyStream]
    ) -> Batches[list[Label]]: ...
    @overload
    def predict_stream(
        self, task: Literal["zero_shot"], items: Texts, **options: Unpack[ZeroShotStream]
    ) -> Batches[list[Label]]: ...
    @overload
    def predict_stream(
        self, task: Literal["rerank"], items: Pairs, **options: Unpack[RerankStream]
    ) -> Batches[float]: ...
    @overload
    def predict_stream(
        self, task: Literal["entities"], items: Texts, **options: Unpack[EntityStream]
    ) -> Batches[list[Entity]]: ...
    @overload
    def predict_stream(
        self, task: Literal["answer"], items: Pairs, **options: Unpack[AnswerStream]
    ) -> Batches[Answer]: ...
    @overload
    def predict_stream(
        self, task: Literal["answer"], items: Pairs, **options: Unpack[AnswersStream]
    ) -> Batches[list[Answer]]: ...
    @overload
    def predict_stream(
        self, task: Literal["choose"], items: Questions, **options: Unpack[TaskStream]
    ) -> Batches[list[float]]: ...
    @overload
    def predict_stream(
        self, task: Literal["encode_sparse"], items: Texts, **options: Unpack[SparseStream]
    ) -> Batches[SparseVector]: ...
    def predict_stream(
        self,
        task: str,
        items: Source[PredictionItem | tuple[int, PredictionItem]],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 64,
        progress: ProgressOption = False,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Batches[Any]:
        """See Client.predict_stream. A synchronous iterable is iterated in the event loop, so it should not block."""
        request = predict_request(task, Delivery(ordered, on_error, batch_size, progress, report), **options)
        return self._transport.stream(request, items, timeout)

    async def _predict(self, task: Task[Any], given: Given, report: ReportOption, timeout: float | None) -> Any:
        known = self._transport.descriptions
        return await self._transport.run(predict(known, task, given, report), timeout)
