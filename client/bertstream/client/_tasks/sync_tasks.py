"""The task heads' methods of the synchronous client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Unpack, overload

from bertstream.client._reports import ReportOption
from bertstream.client._tasks import heads as tasks
from bertstream.client._tasks import operations
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
from bertstream.client._tasks.sync_predictions import PredictionMethods
from bertstream.client._tasks.types import Answer, Candidate, Entity, Label, Ranked, TextScore
from bertstream.client._texts import Text
from bertstream.client._types import Tokens

# A str is an iterable of str too, and a pair one of texts, but the overload for one item comes first.
# mypy: disable-error-code="overload-overlap"


class TaskMethods(PredictionMethods):
    """What a client asks of a model's task heads; a part of Client.

    Each takes one item, and gives its answer, or a list of items, and gives a list of their answers; a long list is cut
    into messages, of which several are under way. Where the model lacks the head, FailedPrecondition says which it has.
    """

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
        """What could stand in place of each mask: of one text a list with a list of candidates for each of its masks,
        the most probable candidate first; of a list of texts a list of those.

        ```python
        client.fill_mask("Paris is the [MASK] of France.")[0][0].token  # "capital"
        ```

        A mask is "[MASK]", or the checkpoint's own mask token. A text without one is refused.
        """
        return self._predict(tasks.fill_mask(**options), given_texts(texts), report, timeout)

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
        """How likely a text is: the sum of the logarithms of its tokens' probabilities, each where it alone is masked
        (pseudo-log-likelihood), and each of them. Needs the head "fill_mask"; computes a text of n tokens n times.
        """
        return self._predict(tasks.score_text(**options), given_texts(texts), report, timeout)

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
        """The probability that the second text follows the first. A pair is two arguments or one tuple; of a list of
        tuples a list of probabilities.
        """
        given = given_pairs(first, second, "a text and the one that may follow")
        return self._predict(tasks.next_sentence(**options), given, report, timeout)

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
        """The checkpoint's labels of a text, or of a pair such as a premise and a hypothesis (a tuple), the best first;
        of a list of texts or pairs a list of those.
        """
        return self._predict(tasks.classify(**options), given_texts(texts, with_pairs=True), report, timeout)

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
        """Labels of your own for a text, the best first, by a checkpoint that was trained to tell entailment; of a list
        of texts a list of those. A text is computed once for each label.
        """
        return self._predict(tasks.zero_shot(labels=labels, **options), given_texts(texts), report, timeout)

    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[RerankOptions],
    ) -> list[Ranked]:
        """The documents by their relevance to a query, the most relevant first, by a cross-encoder."""
        known = self._transport.descriptions
        return self._transport.run(operations.rerank(known, query, documents, report, **options), timeout)

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
        """The entities in a text, in its order; of a list of texts a list of those.

        ```python
        for entity in client.entities(text):
            print(entity.label, text[entity.start : entity.end])
        ```
        """
        return self._predict(tasks.entities(**options), given_texts(texts), report, timeout)

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
        """The best answer to a question that its context has; with `top_k` a list of the best ones, the best first. A
        pair of question and context is two arguments or one tuple; of a list of tuples a list.

        Long contexts are read in overlapping windows. With `allow_no_answer` an empty text may be the answer; without
        it one with a score of 0 stands where the server found none at all, of which `top_k` gives an empty list.
        """
        given = given_pairs(question, context, "a question and its context")
        return self._predict(tasks.answer(top_k=top_k, **options), given, report, timeout)

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
        """How probable each choice is as what goes with the prompt; the probabilities add up to 1. A prompt and its
        choices, of any number, are two arguments or one tuple; of a list of tuples a list.
        """
        return self._predict(tasks.choose(**options), given_choices(prompt, choices), report, timeout)

    def _predict(self, task: tasks.Task[Any], given: Given, report: ReportOption, timeout: float | None) -> Any:
        known = self._transport.descriptions
        return self._transport.run(operations.predict(known, task, given, report), timeout)
