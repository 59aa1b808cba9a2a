"""Give the scores of labels: of texts, of pairs, and of each token of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertstream.server.core.errors import invalid
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.calls import prepare_items
from bertstream.server.core.tasks.labels import own_function, rerank_function
from bertstream.server.core.tasks.scores import LabelScores, ScoreLabels, score_labels
from bertstream.server.core.tokenization import Pairs, Strategy, TokenizeOptions
from bertstream.server.protocols.inference.options import (
    TRUNCATION,
    function_of,
    offset_unit_of,
    priority_of,
    truncation_of,
)
from bertstream.server.protocols.inference.tasks import tokens
from bertstream.server.protocols.inference.tasks.base import (
    ADVICE,
    AskedTensors,
    InferTurn,
    Work,
    work_of,
)
from bertstream.server.protocols.inference.tensors import Array, Spec, Strings, pad
from bertstream.workers.contract import HeadName, ScoreFunction
from bertstream.workers.programs.description import ModelDescription

SCORES, LOGITS, LABEL = "scores", "logits", "label"


@dataclass(frozen=True, slots=True)
class Labels:
    """Give a score of each label, of one head."""

    head: HeadName
    by_token: bool
    parameters = TRUNCATION | {"function", "offset_unit"}

    def reads_pairs(self, description: ModelDescription) -> bool:
        """Return whether there is a single label of texts, as rerankers have it."""
        return not self.by_token and len(description.labels) == 1

    def outputs(self, description: ModelDescription) -> Sequence[Spec]:
        """Return the scores, and the logits that they are made of, in the order of the labels."""
        if self.head not in description.heads:
            return ()
        shape = (-1, -1, len(description.labels)) if self.by_token else (-1, len(description.labels))
        named = () if self.by_token else (Spec(LABEL, "BYTES", (-1, 1)),)
        return (Spec(SCORES, "FP32", shape), Spec(LOGITS, "FP32", shape), *named, *tokens.SPECS)

    def defaults(self, description: ModelDescription) -> Sequence[str]:
        """Return the scores, and where there are several labels, the best one; of tokens, how many there are."""
        if self.by_token:
            return (SCORES, tokens.COUNT)
        return (SCORES, LABEL) if len(description.labels) > 1 else (SCORES,)

    async def prepare(self, asked: AskedTensors, turn: InferTurn) -> Work:
        """Tokenize the texts."""
        model, given = turn.model, asked.given

        def begin() -> tuple[ScoreLabels, SentItems]:
            return self._task(asked, turn), given.sent

        prepared = await prepare_items(model, begin, ADVICE)
        found = prepared.rows.context
        width = given.width or int(found.lengths.max())

        def write(answer: LabelScores) -> dict[str, Array]:
            return self._arrays(answer, width, asked, model.description)

        return work_of(asked, turn, prepared, width, write)

    def _task(self, asked: AskedTensors, turn: InferTurn) -> ScoreLabels:
        options, description = asked.options, turn.model.description
        reranks = isinstance(asked.given.sent.inputs, Pairs) and len(description.labels) == 1 and not self.by_token
        strategy: Strategy = "only_second" if reranks else "longest_first"
        tokenize = TokenizeOptions(
            truncation_of(options, description, strategy),
            columns=tokens.columns_for(asked.names),
            offset_unit=offset_unit_of(options),
        )
        function = function_of(options, self._own_function(description, reranks=reranks))
        if LOGITS in asked.names:
            if {SCORES, LABEL} & set(asked.names) or (function != "none" and "function" in options.given):
                raise invalid(
                    "outputs", "logits come alone: ask for scores in a request of their own", "INVALID_COMBINATION"
                )
            function = "none"
        return score_labels(turn.model, self.head, tokenize, priority_of(options, turn.priority), function)

    def _own_function(self, description: ModelDescription, *, reranks: bool) -> ScoreFunction:
        if self.by_token:
            return "softmax"
        return rerank_function(description) if reranks else own_function(description.score_function)

    def _arrays(
        self, answer: LabelScores, width: int, asked: AskedTensors, description: ModelDescription
    ) -> dict[str, Array]:
        scores = answer.scores
        if self.by_token:
            scores = pad(scores, answer.tokens.lengths, width)
        made: dict[str, Array] = {SCORES: scores, LOGITS: scores}
        if LABEL in asked.names:
            best = np.argmax(scores, axis=1).tolist()
            made[LABEL] = Strings((len(best), 1), [description.labels[label] for label in best])
        return {**made, **tokens.token_arrays(answer.tokens, width, asked.names)}
