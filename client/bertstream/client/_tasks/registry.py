"""All task heads, by the names of the clients' methods; a new one needs a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bertstream.client._tasks.answer import answer_task
from bertstream.client._tasks.choose import choose_task
from bertstream.client._tasks.classify import classify_task
from bertstream.client._tasks.encode_sparse import encode_sparse_task
from bertstream.client._tasks.entities import entities_task
from bertstream.client._tasks.fill_mask import fill_mask_task
from bertstream.client._tasks.next_sentence import next_sentence_task
from bertstream.client._tasks.rerank import rerank_task
from bertstream.client._tasks.score_text import score_text_task
from bertstream.client._tasks.task import Task
from bertstream.client._tasks.zero_shot import zero_shot_task

TASKS: Mapping[str, Callable[..., Task[Any]]] = {
    "fill_mask": fill_mask_task,
    "score_text": score_text_task,
    "next_sentence": next_sentence_task,
    "classify": classify_task,
    "zero_shot": zero_shot_task,
    "rerank": rerank_task,
    "entities": entities_task,
    "answer": answer_task,
    "choose": choose_task,
    "encode_sparse": encode_sparse_task,
}


def task_named(name: str, given: dict[str, Any]) -> Task[Any]:
    """Return the task of that name, with these options. Raises ValueError for an unknown name."""
    if name not in TASKS:
        raise ValueError(f"task must be one of {', '.join(map(repr, TASKS))}, not {name!r}")
    return TASKS[name](**given)
