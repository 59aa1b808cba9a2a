"""PredictNextSentences: whether the second text of a pair follows the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, invalid
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.base import Rows, Share
from bertstream.server.core.tasks.labels import TextTask
from bertstream.server.core.tasks.texts import TaskTexts
from bertstream.server.core.tokenization import Ids, ragged

_IS_NEXT = 0  # which of the head's two logits, as in transformers


@dataclass(frozen=True, slots=True)
class NextSentences:
    """The probability of each pair that its second text follows the first."""

    probabilities: NDArray[np.generic]


class PredictNextSentences(TextTask):
    """Finds the probability of each pair."""

    kinds = ("pairs", "token_ids")

    def texts_of(self, sent: SentItems) -> TaskTexts:
        texts = super().texts_of(sent)
        if not isinstance(sent.inputs, Ids):
            return texts
        if sent.inputs.type_ids is None:
            about = "say which tokens are of the second text"
            raise invalid(f"{sent.field}.token_type_ids", about, "INVALID_LENGTHS")
        return texts.without(self._without_second_text(sent.inputs, sent))

    def _without_second_text(self, inputs: Ids, sent: SentItems) -> dict[int, RequestError]:
        """Return the errors of texts none of whose tokens is of the second text, if the model tells the two apart."""
        if inputs.type_ids is None or self.model.description.type_vocabulary_size < 2:
            return {}
        counts = np.bincount(ragged.owners(inputs.lengths), inputs.type_ids != 0, minlength=len(inputs))
        about = "all its token_type_ids are 0: say which tokens are of the second text"
        return {
            index: invalid(sent.at(index), about, "INVALID_TOKEN_TYPE_ID")
            for index in np.flatnonzero(counts == 0).tolist()
        }

    def answer(self, rows: Rows[None], share: Share) -> NextSentences:
        return NextSentences(share.tensors["label_scores"][:, _IS_NEXT])
