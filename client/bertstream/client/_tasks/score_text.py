"""The task "score_text": the likelihood of texts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.client._columns import check, joined, split
from bertstream.client._tasks.items import ANY, preparing
from bertstream.client._tasks.options import with_common
from bertstream.client._tasks.task import Task
from bertstream.v1 import tasks_pb2 as tasks

_MASKED_COPIES = 32  # an estimate of the copies of a text that the server computes, each with one token masked


@dataclass(frozen=True, slots=True, eq=False)
class TextScore:
    """The pseudo-log-likelihood of a text: each token is scored given all others. `float()` gives `score`."""

    score: float
    """The sum of log_probabilities."""
    token_ids: NDArray[np.int32]
    """[n]: the tokens, without special ones."""
    log_probabilities: NDArray[np.float32]
    """[n]: the natural logarithm of each token's probability, while only that token is masked."""

    def __float__(self) -> float:
        return self.score

    @property
    def token_count(self) -> int:
        """How many tokens were scored."""
        return len(self.token_ids)

    @property
    def perplexity(self) -> float:
        """The pseudo-perplexity: e to the power of the mean negative log-probability. NaN without any token."""
        return math.exp(-self.score / self.token_count) if self.token_count else math.nan


def score_text_task(**given: Any) -> Task[TextScore]:
    """Return the task for TaskOptions. Raises ValueError or TypeError for unusable values."""
    return Task(
        with_common(tasks.ScoreTextOptions(), **given),
        tasks.ScoreTextsRequest,
        tasks.TextScores,
        preparing("score_text", ANY, _MASKED_COPIES),
        scores_of,
    )


def scores_of(message: tasks.TextScores, items: int) -> list[TextScore]:
    """Return the score of each text."""
    check(message.scores, items, "scores")
    check(message.token_counts, items, "token_counts")
    ids = split(np.fromiter(message.token_ids, np.int32), message.token_counts)
    logarithms = split(np.fromiter(message.log_probabilities, np.float32), message.token_counts)
    return joined(TextScore, message.scores, ids, logarithms)
