"""ClassifyTexts and RerankTexts: the labels of a sequence classification head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.sent import ChoiceLists, SentItems
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task
from bertstream.server.core.tasks.texts import tokenize
from bertstream.server.core.tokenization import TokenizeOptions, Truncation
from bertstream.workers.contract import HeadName, HeadOptions, OutputOptions, ScoreFunction
from bertstream.workers.programs.description import ModelDescription

HEAD: HeadName = "sequence_classification"
_FUNCTIONS: tuple[ScoreFunction, ...] = get_args(ScoreFunction)
_LABEL_BYTES = 5  # the fewest bytes of a label in an answer: its number, and a score


@dataclass(frozen=True)
class TextTask(Task[None]):
    """A task whose items are texts with one row each."""

    tokenize: TokenizeOptions

    def prepare(self, sent: SentItems) -> Rows[None]:
        assert not isinstance(sent.inputs, ChoiceLists)
        texts = tokenize(self.model, sent.inputs, self.tokenize, sent)
        return Rows(texts.batch, texts.tokens.text_indexes, texts.failed, texts.tokens.truncated, None)


@dataclass(frozen=True, slots=True)
class TextLabels:
    """Labels and their scores, best first, text by text."""

    labels: Sequence[str]  # all labels of the checkpoint
    label_counts: Sequence[int]  # of each text
    label_ids: NDArray[np.generic]
    scores: NDArray[np.generic]


class ClassifyTexts(TextTask):
    """Labels of texts or pairs, best first."""

    def prepare(self, sent: SentItems) -> Rows[None]:
        rows = super().prepare(sent)
        assert self.output_options.head is not None
        sizes = np.full(rows.truncated.size, _LABEL_BYTES * self.output_options.head.top_k, np.int64)
        sizes[list(rows.failed)] = 0
        return replace(rows, least_bytes=sizes)

    def answer(self, rows: Rows[None], share: Share) -> TextLabels:
        ids, scores = share.tensors["label_scores.ids"], share.tensors["label_scores.scores"]
        counts = [ids.shape[1]] * share.items.size
        return TextLabels(self.model.description.labels, counts, ids.ravel(), scores.ravel())


@dataclass(frozen=True, slots=True)
class Relevances:
    """The score of each pair."""

    scores: NDArray[np.generic]


@dataclass(frozen=True)
class RerankTexts(TextTask):
    """A score for each pair of query and document."""

    kinds = ("pairs",)

    label: int

    def answer(self, rows: Rows[None], share: Share) -> Relevances:
        return Relevances(share.tensors["label_scores"][:, self.label])


def own_function(name: str) -> ScoreFunction:
    """Return the function of scores of this name, as a model's description has it."""
    return next(function for function in _FUNCTIONS if function == name)


def classify_texts(
    model: HeadModel, truncation: Truncation, priority: int, function: ScoreFunction, top_k: int
) -> ClassifyTexts:
    """Return the task that gives the best `top_k` labels of each text or pair; the model has the head."""
    options = OutputOptions(("label_scores",), head=HeadOptions(HEAD, function, top_k))
    return ClassifyTexts(model, options, priority, TokenizeOptions(truncation))


def rerank_texts(
    model: HeadModel, truncation: Truncation, priority: int, function: ScoreFunction, label: int
) -> RerankTexts:
    """Return the task that gives each pair the score of one label, by its number; the model has the head."""
    options = OutputOptions(("label_scores",), head=HeadOptions(HEAD, function))
    return RerankTexts(model, options, priority, TokenizeOptions(truncation), label)


def rerank_function(description: ModelDescription) -> ScoreFunction:
    """Return the function of relevance scores of a request that does not choose one."""
    if description.rerank_function:
        return own_function(description.rerank_function)
    return "sigmoid" if len(description.labels) == 1 else "softmax"


def sort_documents(relevances: Relevances, top_k: int) -> tuple[list[int], list[float]]:
    """Return the indexes and scores of the best documents, best first; of equal ones, the earlier one comes first."""
    scores = relevances.scores.astype(np.float32)
    order = np.argsort(-scores, kind="stable")[: top_k or None]
    return order.tolist(), scores[order].tolist()
