"""The task heads: for each its rpc, its messages, what it takes and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from bertstream.client._errors import unexpected_response
from bertstream.client._tasks import decode
from bertstream.client._tasks import options as make
from bertstream.client._tasks.items import (
    CANDIDATES,
    MASKED_COPIES,
    WINDOWS,
    Prepare,
    choice_lists,
    prepare_choices,
    preparing,
)
from bertstream.client._tasks.types import Answer, Candidate, Entity, Label, TaskName, TextScore
from bertstream.client._texts import Group, Kind
from bertstream.v1 import tasks_pb2 as tasks

R = TypeVar("R")

_ANY: tuple[Kind, ...] = ("texts", "pairs", "word_lists", "token_ids")


class Wire(NamedTuple):
    """What a task is called in the messages."""

    rpc: str
    request: Callable[..., Any]
    inputs: Callable[[Group], Any]
    answers: str
    """The field of the unary answer."""
    option: str
    """The field of PredictionOptions."""
    predictions: str
    """The field of PredictedItems."""


@dataclass(frozen=True, slots=True)
class Task(Generic[R]):
    """A task with its options, as a call or a stream needs it."""

    name: TaskName
    options: Any
    prepare: Prepare
    decoded: Callable[[Any, int], list[R]]
    """A message of columns, and how many items it is about, to the answer for each."""

    @property
    def wire(self) -> Wire:
        """What it is called in the messages."""
        return _WIRES[self.name]

    def request(self, group: Group) -> Any:
        """A unary request."""
        return self.wire.request(options=self.options, inputs=self.wire.inputs(group))

    def answers(self, response: Any, items: int) -> list[R]:
        """What a unary response has for each of so many items."""
        return self.decoded(getattr(response, self.wire.answers), items)

    def first_request(self) -> tasks.StreamPredictionsRequest:
        """What opens a stream."""
        options: Any = {self.wire.option: self.options}
        return tasks.StreamPredictionsRequest(options=tasks.PredictionOptions(**options))

    def predictions(self, message: tasks.PredictedItems) -> list[R]:
        """What a stream's message has for each of its items."""
        field = message.WhichOneof("predictions")
        if not message.ids and field is None:
            return []
        if field != self.wire.predictions:
            raise unexpected_response(f"{field} in a stream of {self.wire.option}")
        return self.decoded(getattr(message, self.wire.predictions), len(message.ids))


def fill_mask(*, top_k: int | None = None, **given: Any) -> Task[list[list[Candidate]]]:
    """For each text, for each of its masks, the candidates."""
    options = make.fill_mask_options(top_k=top_k, **given)
    prepare = preparing("fill_mask", _ANY, 1 + options.top_k // CANDIDATES)
    return Task("fill_mask", options, prepare, decode.candidates_of)


def score_text(**given: Any) -> Task[TextScore]:
    """For each text its score."""
    options = make.score_text_options(**given)
    return Task("score_text", options, preparing("score_text", _ANY, MASKED_COPIES), decode.scores_of)


def next_sentence(**given: Any) -> Task[float]:
    """For each pair the probability that the second text follows."""
    prepare = preparing("next_sentence", ("pairs", "token_ids"))
    return Task("next_sentence", make.next_sentence_options(**given), prepare, decode.probabilities_of)


def classify(**given: Any) -> Task[list[Label]]:
    """For each text its labels."""
    return Task("classify", make.classify_options(**given), preparing("classify", _ANY), decode.labels_of)


def zero_shot(**given: Any) -> Task[list[Label]]:
    """For each text the caller's labels."""
    options = make.zero_shot_options(**given)
    labels = list(options.labels)

    def decoded(message: tasks.ZeroShotLabels, items: int) -> list[list[Label]]:
        return decode.zero_shot_labels_of(message, items, labels)

    return Task("zero_shot", options, preparing("zero_shot", ("texts",), len(labels)), decoded)


def rerank(**given: Any) -> Task[float]:
    """For each pair of query and document a score: a stream's `rerank`."""
    options = make.rerank_options(**given)
    if options.top_k:
        raise ValueError("top_k is not for streams: each document gets its score")
    return Task("rerank", options, preparing("rerank", ("pairs",)), decode.relevances_of)


def entities(**given: Any) -> Task[list[Entity]]:
    """For each text its entities."""
    options = make.entity_options(**given)
    prepare = preparing("entities", ("texts", "word_lists", "token_ids"), WINDOWS if options.windows else 1)
    return Task("entities", options, prepare, decode.entities_of)


def answer(**given: Any) -> Task[list[Answer]] | Task[Answer]:
    """For each question its best answers, or with no top_k the best one."""
    options, prepare = make.answer_options(**given), preparing("answer", ("pairs",), WINDOWS)
    if options.top_k:
        return Task("answer", options, prepare, decode.answers_of)
    return Task("answer", options, prepare, decode.best_answers_of)


def choose(**given: Any) -> Task[list[float]]:
    """For each prompt the probabilities of its choices."""
    return Task("choose", make.choose_options(**given), prepare_choices, decode.choices_of)


TASKS: dict[TaskName, Callable[..., Task[Any]]] = {
    "fill_mask": fill_mask,
    "score_text": score_text,
    "next_sentence": next_sentence,
    "classify": classify,
    "zero_shot": zero_shot,
    "rerank": rerank,
    "entities": entities,
    "answer": answer,
    "choose": choose,
}


def task_named(name: str, given: dict[str, Any]) -> Task[Any]:
    """The task of that name, with these options. ValueError where there is none."""
    if name not in TASKS:
        raise ValueError(f"task must be one of {', '.join(map(repr, TASKS))}, not {name!r}")
    return TASKS[name](**given)


def _texts(group: Group) -> Any:
    return group.batch().texts


def _pairs(group: Group) -> Any:
    return group.batch().pairs


_WIRES: dict[TaskName, Wire] = {
    "fill_mask": Wire("FillMasks", tasks.FillMasksRequest, Group.batch, "candidates", "fill_mask", "candidates"),
    "score_text": Wire("ScoreTexts", tasks.ScoreTextsRequest, Group.batch, "scores", "score_text", "scores"),
    "next_sentence": Wire(
        *("PredictNextSentences", tasks.PredictNextSentencesRequest, Group.batch),
        *("next_sentences", "next_sentence", "next_sentences"),
    ),
    "classify": Wire("ClassifyTexts", tasks.ClassifyTextsRequest, Group.batch, "labels", "classify_text", "labels"),
    "zero_shot": Wire(
        "ClassifyZeroShot", tasks.ClassifyZeroShotRequest, _texts, "labels", "zero_shot", "zero_shot_labels"
    ),
    "rerank": Wire("RerankTexts", tasks.RerankTextsRequest, Group.batch, "", "rerank", "relevances"),
    "entities": Wire(
        "ClassifyTokens", tasks.ClassifyTokensRequest, Group.batch, "entities", "classify_tokens", "entities"
    ),
    "answer": Wire("AnswerQuestions", tasks.AnswerQuestionsRequest, _pairs, "answers", "answer", "answers"),
    "choose": Wire("ChooseAnswers", tasks.ChooseAnswersRequest, choice_lists, "choices", "choose", "choices"),
}
