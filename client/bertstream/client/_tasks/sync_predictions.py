"""The synchronous client's bulk streams of task heads."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Literal, TypeAlias, Unpack, overload

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
from bertstream.client._transport.sync_transport import SyncTransport

Batches: TypeAlias = Generator[PredictedBatch[R], None, None]
Texts: TypeAlias = Iterable[Text | tuple[int, Text]]
Pairs: TypeAlias = Iterable[Pair | tuple[int, Pair]]
Questions: TypeAlias = Iterable[Question | tuple[int, Question]]


class PredictionMethods:
    """Bulk streams of task heads; a part of Client."""

    _transport: SyncTransport

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
        items: Iterable[PredictionItem | tuple[int, PredictionItem]],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 64,
        progress: ProgressOption = False,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Batches[Any]:
        """A task over a corpus of any size, in constant memory: as `encode_stream`, with the answers of the method that
        is called as `task`, and that method's options.

        ```python
        for batch in client.predict_stream("classify", texts, top_k=1):
            for text_id, (label,) in zip(batch.ids, batch.results):
                ...
        ```

        Items are those of the method's list: texts, pairs for "next_sentence" and "answer", prompts with their choices
        for "choose"; for "rerank" pairs of query and document, each of which gets a score. "zero_shot" needs `labels`.
        """
        request = predict_request(task, Delivery(ordered, on_error, batch_size, progress, report), **options)
        return self._transport.stream(request, items, timeout)
