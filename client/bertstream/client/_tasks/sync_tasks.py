"""The task heads' methods of the synchronous client: a method and a stream's overload for each head."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Literal, TypeAlias, Unpack, overload

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
from bertstream.client._transport.sync_transport import SyncTransport
from bertstream.client._types import Tokens

# A str is also an iterable of str, and a pair one of texts, but the overload for one item comes first.
# mypy: disable-error-code="overload-overlap"

Batches: TypeAlias = Generator[PredictedBatch[R], None, None]
Texts: TypeAlias = Iterable[Text | tuple[int, Text]]
Pairs: TypeAlias = Iterable[Pair | tuple[int, Pair]]
Questions: TypeAlias = Iterable[Question | tuple[int, Question]]


class TaskMethods:
    """The methods of Client for task heads.

    Each takes one item and returns its answer, or takes a list of items and returns a list of their answers. A long
    list is cut into messages, of which several are under way at a time. If the model lacks the head, FailedPrecondition
    is raised, which names the heads that it has.
    """

    _transport: SyncTransport

    @overload
    def fill_mask(self, texts: str | Tokens, **options: Unpack[FillMaskCall]) -> list[list[Candidate]]: ...
    @overload
    def fill_mask(self, texts: Iterable[Text], **options: Unpack[FillMaskCall]) -> list[list[list[Candidate]]]: ...
    def fill_mask(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[FillMaskOptions],
    ) -> Any:
        """Return the candidates for each masked token of a text, the most probable first.

        For one text the result is a list with a list of candidates for each of its masks; for a list of texts it is a
        list of those.

        ```python
        client.fill_mask("Paris is the [MASK] of France.")[0][0].token  # "capital"
        ```

        A mask is "[MASK]", or the checkpoint's own mask token. A text without one is refused.
        """
        return self._predict(fill_mask_task(**options), given_texts(texts), report, timeout)

    @overload
    def score_text(self, texts: str | Tokens, **options: Unpack[TaskCall]) -> TextScore: ...
    @overload
    def score_text(self, texts: Iterable[Text], **options: Unpack[TaskCall]) -> list[TextScore]: ...
    def score_text(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """Return the pseudo-log-likelihood of a text, and that of each of its tokens.

        It is the sum of the logarithms of its tokens' probabilities, each while only that token is masked. It needs the
        head "fill_mask", and computes a text of n tokens n times.
        """
        return self._predict(score_text_task(**options), given_texts(texts), report, timeout)

    @overload
    def next_sentence(self, first: str, second: str, **options: Unpack[TaskCall]) -> float: ...
    @overload
    def next_sentence(self, first: Pair | Tokens, second: None = None, **options: Unpack[TaskCall]) -> float: ...
    @overload
    def next_sentence(self, first: Iterable[Text], second: None = None, **options: Unpack[TaskCall]) -> list[float]: ...
    def next_sentence(
        self,
        first: str | Pair | Tokens | Iterable[Text],
        second: str | None = None,
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """Return the probability that the second text follows the first.

        A pair is given as two arguments or as one tuple; for a list of tuples the result is a list.
        """
        given = given_pairs(first, second, "a text and the one that may follow")
        return self._predict(next_sentence_task(**options), given, report, timeout)

    @overload
    def classify(self, texts: str | Pair | Tokens, **options: Unpack[ClassifyCall]) -> list[Label]: ...
    @overload
    def classify(self, texts: Iterable[Text], **options: Unpack[ClassifyCall]) -> list[list[Label]]: ...
    def classify(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[ClassifyOptions],
    ) -> Any:
        """Return the checkpoint's labels of a text, the best first.

        The text may be a pair (a tuple), such as a premise and a hypothesis. For a list of texts or pairs the result is
        a list of those.
        """
        return self._predict(classify_task(**options), given_texts(texts, with_pairs=True), report, timeout)

    @overload
    def zero_shot(self, texts: str, labels: Sequence[str], **options: Unpack[ZeroShotCall]) -> list[Label]: ...
    @overload
    def zero_shot(
        self, texts: Iterable[str], labels: Sequence[str], **options: Unpack[ZeroShotCall]
    ) -> list[list[Label]]: ...
    def zero_shot(
        self,
        texts: str | Iterable[str],
        labels: Sequence[str],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[ZeroShotOptions],
    ) -> Any:
        """Return the scores of your own labels for a text, the best first.

        This needs a checkpoint that was trained for entailment (natural language inference). For a list of texts the
        result is a list of those. A text is computed once for each label.
        """
        return self._predict(zero_shot_task(labels=labels, **options), given_texts(texts), report, timeout)

    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[RerankOptions],
    ) -> list[Ranked]:
        """Return the documents by their relevance to a query, the most relevant first, by a cross-encoder."""
        known = self._transport.descriptions
        return self._transport.run(rerank(known, query, documents, report, **options), timeout)

    @overload
    def entities(self, texts: str | Tokens, **options: Unpack[EntityCall]) -> list[Entity]: ...
    @overload
    def entities(self, texts: Iterable[Text], **options: Unpack[EntityCall]) -> list[list[Entity]]: ...
    def entities(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[EntityOptions],
    ) -> Any:
        """Return the entities in a text, in its order; for a list of texts a list of those.

        ```python
        for entity in client.entities(text):
            print(entity.label, text[entity.start : entity.end])
        ```

        A model that reads labels with the text (GLiNER) is told what to look for: `labels=["politician", "fruit"]`.
        """
        return self._predict(entities_task(**options), given_texts(texts), report, timeout)

    @overload
    def answer(self, question: str, context: str, *, top_k: None = None, **options: Unpack[AnswerCall]) -> Answer: ...
    @overload
    def answer(self, question: str, context: str, *, top_k: int, **options: Unpack[AnswerCall]) -> list[Answer]: ...
    @overload
    def answer(
        self, question: Pair, context: None = None, *, top_k: None = None, **options: Unpack[AnswerCall]
    ) -> Answer: ...
    @overload
    def answer(
        self, question: Pair, context: None = None, *, top_k: int, **options: Unpack[AnswerCall]
    ) -> list[Answer]: ...
    @overload
    def answer(
        self, question: Iterable[Pair], context: None = None, *, top_k: None = None, **options: Unpack[AnswerCall]
    ) -> list[Answer]: ...
    @overload
    def answer(
        self, question: Iterable[Pair], context: None = None, *, top_k: int, **options: Unpack[AnswerCall]
    ) -> list[list[Answer]]: ...
    def answer(
        self,
        question: str | Pair | Iterable[Pair],
        context: str | None = None,
        *,
        top_k: int | None = None,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[AnswerOptions],
    ) -> Any:
        """Return the best answer to a question in its context; with `top_k` a list of the best ones, the best first.

        A question and its context are given as two arguments or as one tuple; for a list of tuples the result is a
        list. Long contexts are read in overlapping windows. With `allow_no_answer` an empty text may be the best
        answer. Without it, if the server found no answer at all, the result is an empty text with a score of 0, or
        with `top_k` an empty list.
        """
        given = given_pairs(question, context, "a question and its context")
        return self._predict(answer_task(top_k=top_k, **options), given, report, timeout)

    @overload
    def choose(self, prompt: str, choices: Sequence[str], **options: Unpack[TaskCall]) -> list[float]: ...
    @overload
    def choose(self, prompt: Question, choices: None = None, **options: Unpack[TaskCall]) -> list[float]: ...
    @overload
    def choose(
        self, prompt: Iterable[Question], choices: None = None, **options: Unpack[TaskCall]
    ) -> list[list[float]]: ...
    def choose(
        self,
        prompt: str | Question | Iterable[Question],
        choices: Sequence[str] | None = None,
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """Return the probability of each choice to go with the prompt; the probabilities add up to 1.

        A prompt and its choices, of any number, are given as two arguments or as one tuple; for a list of tuples the
        result is a list.
        """
        return self._predict(choose_task(**options), given_choices(prompt, choices), report, timeout)

    @overload
    def encode_sparse(self, texts: str | Tokens, **options: Unpack[SparseCall]) -> SparseVector: ...
    @overload
    def encode_sparse(self, texts: Iterable[Text], **options: Unpack[SparseCall]) -> list[SparseVector]: ...
    def encode_sparse(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[SparseOptions],
    ) -> Any:
        """Return the weights of the vocabulary's tokens for a text, as SPLADE and its successors use them for search.

        It needs the head "fill_mask", and makes sense for checkpoints that were trained for it. For a list of texts the
        result is a list.
        """
        return self._predict(encode_sparse_task(**options), given_texts(texts), report, timeout)

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
        """Stream the answers of a task for a corpus of any size, in constant memory, as `encode_stream` does.

        `task` is the name of a method; the answers and options are those of that method.

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

    def _predict(self, task: Task[Any], given: Given, report: ReportOption, timeout: float | None) -> Any:
        known = self._transport.descriptions
        return self._transport.run(predict(known, task, given, report), timeout)
