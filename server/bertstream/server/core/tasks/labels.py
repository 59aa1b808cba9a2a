"""ClassifyTexts and RerankTexts: the labels of a sequence classification head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.preparation import NAMES
from bertstream.server.core.sent import ChoiceLists, SentItems
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task
from bertstream.server.core.tasks.texts import TaskTexts, tokenize
from bertstream.server.core.tokenization import TokenizeOptions, Truncation
from bertstream.server.core.windows import Windowing, WindowPooling, pool_windows
from bertstream.workers.contract import HeadName, HeadOptions, OutputOptions, ScoreFunction
from bertstream.workers.programs.description import ModelDescription

HEAD: HeadName = "sequence_classification"
_FUNCTIONS: tuple[ScoreFunction, ...] = get_args(ScoreFunction)
_LABEL_BYTES = 5  # the fewest bytes of a label in an answer: its number, and a score


@dataclass(frozen=True)
class TextTask(Task[None]):
    """A task whose items are texts with one row each."""

    names: ClassVar[tuple[str, str]] = NAMES  # of the two texts of a pair, in errors

    tokenize: TokenizeOptions

    def prepare(self, sent: SentItems) -> Rows[None]:
        texts = self.texts_of(sent)
        return Rows(texts.batch, texts.tokens.text_indexes, texts.failed, texts.tokens.truncated, None)

    def texts_of(self, sent: SentItems) -> TaskTexts:
        """Return the rows of the texts, and the errors of those that have none."""
        assert not isinstance(sent.inputs, ChoiceLists)
        return tokenize(self.model, sent.inputs, self.tokenize, sent, names=self.names)


@dataclass(frozen=True, slots=True)
class TextLabels:
    """Labels and their scores, best first, text by text."""

    labels: Sequence[str]  # all labels of the checkpoint
    label_counts: Sequence[int]  # of each text
    label_ids: NDArray[np.generic]
    scores: NDArray[np.generic]


@dataclass(frozen=True)
class ClassifyTexts(TextTask):
    """Labels of texts or pairs, best first."""

    top_k: int
    windows: WindowPooling | None = None  # how the scores of a long text's windows become one

    def prepare(self, sent: SentItems) -> Rows[None]:
        rows = super().prepare(sent)
        sizes = np.full(rows.truncated.size, _LABEL_BYTES * self.top_k, np.int64)
        sizes[list(rows.failed)] = 0
        return replace(rows, least_bytes=sizes)

    def answer(self, rows: Rows[None], share: Share) -> TextLabels:
        if self.windows is None:
            ids, scores = share.tensors["label_scores.ids"], share.tensors["label_scores.scores"]
        else:
            ids, scores = _best(of_windows(share.tensors["label_scores"], rows, share, self.windows), self.top_k)
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
    names = ("query", "document")

    label: int
    windows: WindowPooling | None = None  # how the scores of a long document's windows become one

    def answer(self, rows: Rows[None], share: Share) -> Relevances:
        scores = share.tensors["label_scores"]
        if self.windows is not None:
            scores = of_windows(scores, rows, share, self.windows)
        return Relevances(scores[:, self.label])


def of_windows(
    scores: NDArray[np.generic], rows: Rows[None], share: Share, pooling: WindowPooling
) -> NDArray[np.float32]:
    """Return the scores of whole texts, of those of their windows: [q, labels] -> [m, labels]."""
    return pool_windows(scores.astype(np.float32), share.row_counts, rows.batch.lengths[share.rows], pooling)


def _best(scores: NDArray[np.float32], top_k: int) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return the numbers and scores of the best labels, best first, of equal ones the lower first: [m, k] each."""
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return ids.astype(np.int32), np.take_along_axis(scores, ids, axis=1)


def own_function(name: str) -> ScoreFunction:
    """Return the function of scores of this name, as a model's description has it."""
    return next(function for function in _FUNCTIONS if function == name)


def classify_texts(
    model: HeadModel,
    truncation: Truncation,
    priority: int,
    function: ScoreFunction,
    top_k: int,
    windows: Windowing | None = None,
) -> ClassifyTexts:
    """Return the task that gives the best `top_k` labels of each text or pair; the model has the head."""
    options = OutputOptions(("label_scores",), head=HeadOptions(HEAD, function, 0 if windows else top_k))
    tokenize_options, pooling = _cut(truncation, windows)
    return ClassifyTexts(model, options, priority, tokenize_options, top_k, pooling)


def rerank_texts(
    model: HeadModel,
    truncation: Truncation,
    priority: int,
    function: ScoreFunction,
    label: int,
    windows: Windowing | None = None,
) -> RerankTexts:
    """Return the task that gives each pair the score of one label, by its number; the model has the head."""
    options = OutputOptions(("label_scores",), head=HeadOptions(HEAD, function))
    tokenize_options, pooling = _cut(truncation, windows)
    return RerankTexts(model, options, priority, tokenize_options, label, pooling)


def _cut(truncation: Truncation, windows: Windowing | None) -> tuple[TokenizeOptions, WindowPooling | None]:
    """Return how texts are cut, and how their windows are pooled where they have any."""
    if windows is None:
        return TokenizeOptions(truncation), None
    return TokenizeOptions(truncation, windows=True, stride=windows.stride), windows.pooling


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
