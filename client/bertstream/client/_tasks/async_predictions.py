"""The asynchronous client's bulk streams of task heads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any, Literal, TypeAlias, TypeVar, Unpack, overload

from bertstream.client._calls.progress import ProgressOption
from bertstream.client._calls.requests import Delivery, OnError
from bertstream.client._reports import ReportOption
from bertstream.client._tasks.calls import (
    AnswersStream,
    AnswerStream,
    ClassifyStream,
    EntityStream,
    FillMaskStream,
    RerankStream,
    TaskStream,
    ZeroShotStream,
)
from bertstream.client._tasks.items import Pair, PredictionItem, Question
from bertstream.client._tasks.operations import predict_request
from bertstream.client._tasks.types import Answer, Candidate, Entity, Label, PredictedBatch, R, TaskName, TextScore
from bertstream.client._texts import Text
from bertstream.client._transport.async_transport import AsyncTransport

I = TypeVar("I")  # noqa: E741 - an item

Batches: TypeAlias = AsyncGenerator[PredictedBatch[R], None]
Source: TypeAlias = Iterable[I] | AsyncIterable[I]
Texts: TypeAlias = Source[Text | tuple[int, Text]]
Pairs: TypeAlias = Source[Pair | tuple[int, Pair]]
Questions: TypeAlias = Source[Question | tuple[int, Question]]


class AsyncPredictionMethods:
    """Bulk streams of task heads; a part of AsyncClient."""

    _transport: AsyncTransport

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
    def predict_stream(
        self,
        task: TaskName,
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
