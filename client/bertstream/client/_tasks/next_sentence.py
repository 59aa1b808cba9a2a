"""The task "next_sentence": the probability that a text follows another."""

from __future__ import annotations

from typing import Any

from bertstream.client._columns import check
from bertstream.client._tasks.items import preparing
from bertstream.client._tasks.options import with_common
from bertstream.client._tasks.task import Task
from bertstream.v1 import tasks_pb2 as tasks


def next_sentence_task(**given: Any) -> Task[float]:
    """Return the task for TaskOptions. Raises ValueError or TypeError for unusable values."""
    return Task(
        with_common(tasks.NextSentenceOptions(), **given),
        tasks.PredictNextSentencesRequest,
        tasks.NextSentences,
        preparing("next_sentence", ("pairs", "token_ids")),
        probabilities_of,
    )


def probabilities_of(message: tasks.NextSentences, items: int) -> list[float]:
    """Return the probability of each pair."""
    check(message.probabilities, items, "probabilities")
    return list(message.probabilities)
