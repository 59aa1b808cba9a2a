"""ClassifyTexts and RerankTexts: the labels of a sequence classification head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.sent import ChoiceLists, SentItems
from bertstream.server.core.tasks.base import Rows, Share, Task
from bertstream.server.core.tasks.texts import tokenize
from bertstream.server.core.tokenization import TokenizeOptions

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


def sort_documents(relevances: Relevances, top_k: int) -> tuple[list[int], list[float]]:
    """Return the indexes and scores of the best documents, best first; of equal ones, the earlier one comes first."""
    scores = relevances.scores.astype(np.float32)
    order = np.argsort(-scores, kind="stable")[: top_k or None]
    return order.tolist(), scores[order].tolist()
