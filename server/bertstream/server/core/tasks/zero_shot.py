"""ClassifyZeroShot: the caller's labels as hypotheses that a text may entail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, invalid_fields, not_utf8, too_large
from bertstream.server.core.selection import select_rows
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.base import Rows, Share, Task
from bertstream.server.core.tasks.sums import softmax
from bertstream.server.core.tasks.texts import tokenize
from bertstream.server.core.tokenization import Pairs, Texts, TokenizeOptions
from bertstream.workers.contract import Batch
from bertstream.workers.programs.description import ModelDescription


@dataclass(frozen=True, slots=True)
class ZeroShotLabels:
    """All of the caller's labels, best first, text by text."""

    label_count: int  # of each text
    label_indexes: NDArray[np.integer]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class ClassifyZeroShot(Task[None]):
    """Makes a row for each pair of text and hypothesis, the hypotheses of a text next to each other."""

    kinds = ("texts",)

    tokenize: TokenizeOptions
    hypotheses: tuple[str, ...]
    entailment: int  # the label's number
    multi_label: bool

    def prepare(self, sent: SentItems) -> Rows[None]:
        inputs = sent.inputs
        assert isinstance(inputs, Texts)
        many, most = len(self.hypotheses), self.model.limits.max_texts
        if len(inputs) * many > most and len(inputs) > 1:
            about = f"{len(inputs)} texts of {many} labels each are more than {most} pairs: use StreamPredictions"
            raise too_large(sent.path, about)
        firsts = [text for text in inputs.texts for _ in range(many)]
        pairs = Pairs(firsts, self.hypotheses * len(inputs))
        of_pairs = replace(sent, bad=())

        def at(row: int, sequence: int | None) -> str:
            return f"{sent.option('labels')}[{row % many}]" if sequence == 1 else sent.at(row // many)

        texts = tokenize(self.model, pairs, self.tokenize, of_pairs, at, names=("text", "hypothesis"))
        failed = _by_text(texts.failed, many) | {i: not_utf8(sent.at(i)) for i in sent.bad}
        kept = select_rows(texts.tokens, np.flatnonzero(~np.isin(texts.tokens.text_indexes // many, list(failed))))
        truncated = np.asarray(texts.tokens.truncated.reshape(-1, many).any(axis=1))
        items = (kept.text_indexes // many).astype(np.int32)
        return Rows(Batch(kept.ids, kept.lengths, kept.type_ids), items, failed, truncated, None)

    def answer(self, rows: Rows[None], share: Share) -> ZeroShotLabels:
        logits = share.tensors["label_scores"].astype(np.float64)
        scores = self._scores(logits.reshape(share.items.size, len(self.hypotheses), -1)).astype(np.float32)
        order = np.argsort(scores, axis=1, kind="stable")[:, ::-1]  # of equal scores the last first, as in transformers
        return ZeroShotLabels(len(self.hypotheses), order.ravel(), np.take_along_axis(scores, order, axis=1).ravel())

    def _scores(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score of each label: [m, labels, classes] -> [m, labels]."""
        if not self.multi_label and len(self.hypotheses) > 1:
            return softmax(logits[:, :, self.entailment])
        contradiction = -1 if self.entailment == 0 else 0
        return softmax(logits[:, :, [contradiction, self.entailment]])[:, :, 1]


def _by_text(failed: Mapping[int, RequestError], many: int) -> dict[int, RequestError]:
    """Return the errors of texts, each of which has so many rows, of those of rows."""
    of = dict[int, list[RequestError]]()
    for row, error in sorted(failed.items()):
        of.setdefault(row // many, []).append(error)
    return {
        text: invalid_fields(dict.fromkeys(each for error in errors for each in error.violations), errors[0].reason)
        for text, errors in of.items()
    }


def entailment_label(description: ModelDescription) -> int | None:
    """Return the number of the first label that means entailment, as in transformers, or None.

    Where no label does, transformers takes the last one, and its scores then mean nothing.
    """
    numbers = [number for number, label in enumerate(description.labels) if label.lower().startswith("entail")]
    return numbers[0] if numbers and len(description.labels) > 1 else None
