"""The task "choose": the probabilities of choices."""

from __future__ import annotations

from typing import Any

from bertstream.client._columns import check, split
from bertstream.client._tasks.items import choice_lists, prepare_choices
from bertstream.client._tasks.options import with_common
from bertstream.client._tasks.task import Task
from bertstream.v1 import tasks_pb2 as tasks


def choose_task(**given: Any) -> Task[list[float]]:
    """Return the task for TaskOptions. Raises ValueError or TypeError for unusable values."""
    return Task(
        with_common(tasks.ChooseOptions(), **given),
        tasks.ChooseAnswersRequest,
        tasks.Choices,
        prepare_choices,
        choices_of,
        inputs=choice_lists,
        field="choices",
    )


def choices_of(message: tasks.Choices, items: int) -> list[list[float]]:
    """Return the probabilities of each question's choices."""
    check(message.choice_counts, items, "choice_counts")
    return split(list(message.probabilities), message.choice_counts)
