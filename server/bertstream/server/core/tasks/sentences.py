"""PredictNextSentences: whether the second text of a pair follows the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import invalid
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.base import Rows, Share
from bertstream.server.core.tasks.labels import TextTask
from bertstream.server.core.tokenization import Ids

_IS_NEXT = 0  # which of the head's two logits, as in transformers


@dataclass(frozen=True, slots=True)
class NextSentences:
    """The probability of each pair that its second text follows the first."""

    probabilities: NDArray[np.generic]


class PredictNextSentences(TextTask):
    """Finds the probability of each pair."""

    kinds = ("pairs", "token_ids")

    def prepare(self, sent: SentItems) -> Rows[None]:
        if isinstance(sent.inputs, Ids) and sent.inputs.type_ids is None:
            about = "say which tokens are of the second text"
            raise invalid(f"{sent.field}.token_type_ids", about, "INVALID_LENGTHS")
        return super().prepare(sent)

    def answer(self, rows: Rows[None], share: Share) -> NextSentences:
        return NextSentences(share.tensors["label_scores"][:, _IS_NEXT])
