"""Give the scores of all labels in their order: of texts, or of each token of texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.sent import ChoiceLists, SentItems
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task
from bertstream.server.core.tasks.texts import tokenize
from bertstream.server.core.tokenization import Tokenized, TokenizeOptions
from bertstream.workers.contract import HeadName, HeadOptions, Output, OutputOptions, ScoreFunction

# The heads whose labels have scores, and the workers' output that has them.
OUTPUTS: dict[HeadName, Output] = {
    "sequence_classification": "label_scores",
    "token_classification": "token_label_scores",
}


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Hold a score for each label: [n, L] of texts, or [T, L] of the tokens of all texts end to end."""

    tokens: Tokenized
    scores: NDArray[np.generic]


@dataclass(frozen=True)
class ScoreLabels(Task[Tokenized]):
    """Score all labels, for items that are texts with one row each; an answer is of all items of a message."""

    kinds = ("texts", "pairs", "token_ids")

    tokenize: TokenizeOptions

    def prepare(self, sent: SentItems) -> Rows[Tokenized]:
        assert not isinstance(sent.inputs, ChoiceLists)
        texts = tokenize(self.model, sent.inputs, self.tokenize, sent)
        tokens = texts.tokens
        return Rows(texts.batch, tokens.text_indexes, texts.failed, tokens.truncated, tokens)

    def answer(self, rows: Rows[Tokenized], share: Share) -> LabelScores:
        (output,) = self.output_options.outputs
        return LabelScores(rows.context, share.tensors[output])


def score_labels(
    model: HeadModel, head: HeadName, tokenize: TokenizeOptions, priority: int, function: ScoreFunction
) -> ScoreLabels:
    """Return the task that scores the labels of a head in OUTPUTS, which the model has."""
    options = OutputOptions((OUTPUTS[head],), head=HeadOptions(head, function))
    return ScoreLabels(model, options, priority, tokenize)
