"""Run a task on the items of a message whose answer is one message, too, so that it fails as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bertstream.server.core import tracing
from bertstream.server.core.computing import Terms, check_answer_size, raise_first
from bertstream.server.core.dispatch import Job, Outcome
from bertstream.server.core.errors import too_large
from bertstream.server.core.models import ServedModel
from bertstream.server.core.preparation import refuse_failed
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.base import Rows, Task
from bertstream.server.core.tasks.gathering import gather

Written = TypeVar("Written")
Begin = Callable[[], tuple[Task[Any], SentItems]]  # makes the task and finds its items; it runs in a thread


@dataclass(frozen=True, slots=True)
class PreparedItems:
    """Hold the items of a message as rows of a task; none of them has failed."""

    task: Task[Any]
    sent: SentItems
    rows: Rows[Any]
    tokenize_seconds: float

    @property
    def items(self) -> int:
        """Return how many items there are."""
        return int(self.rows.truncated.size)

    @property
    def tokens(self) -> int:
        """Return how many tokens the workers compute."""
        return int(self.rows.costs.sum())


@dataclass(frozen=True, slots=True)
class AnsweredItems(Generic[Written]):
    """Hold the answers of a task to all items."""

    answer: object  # as the task gives it
    written: Written  # as the protocol has it
    outcomes: Sequence[Outcome]  # for their times


async def prepare_items(model: ServedModel, begin: Begin, advice: str) -> PreparedItems:
    """Make the rows in a thread. Raises what `begin` does, INVALID_ARGUMENT naming items, or REQUEST_TOO_LARGE.

    advice: what else to call where one call's answer or work would be too large.
    """

    def rows_of() -> tuple[Task[Any], SentItems, Rows[Any]]:
        task, sent = begin()
        return task, sent, task.prepare(sent)

    started = time.monotonic()
    with tracing.span("tokenize") as span:
        task, sent, rows = await model.in_thread(rows_of)
        span.set(texts=rows.truncated.size, tokens=rows.batch.ids.size)
    seconds = time.monotonic() - started
    refuse_failed(rows.failed)
    prepared = PreparedItems(task, sent, rows, seconds)
    _check_sizes(prepared, model, advice)
    return prepared


async def answer_items(
    model: ServedModel,
    prepared: PreparedItems,
    write: Callable[[Any], Written],
    terms: Terms,
    *,
    waits: bool = False,
) -> AnsweredItems[Written]:
    """Compute the rows, and return the answer, which `write` turns into the protocol's in a thread.

    waits: whether to wait for room, or to raise OVERLOADED or QUOTA_EXCEEDED where there is none.
    """
    task, rows, count = prepared.task, prepared.rows, prepared.rows.items.size
    terms.check_deadline()
    room = model.admission.room(prepared.tokens, terms.caller, task.priority, texts=prepared.items, waits=waits)
    async with room:
        batch = task.expand(rows, 0, count)
        job = Job(batch, task.output_options, task.priority, terms.deadline, terms.caller)
        outcomes = await model.dispatcher.run(job)
    raise_first(outcomes)
    with tracing.span("wire"):
        computed, _ = gather(rows, 0, count, batch, outcomes)

        def answered() -> tuple[object, Written]:
            answer = task.answer(rows, computed.whole())
            return answer, write(answer)

        answer, written = await model.in_thread(answered)
    return AnsweredItems(answer, written, outcomes)


def _check_sizes(prepared: PreparedItems, model: ServedModel, advice: str) -> None:
    """Raise REQUEST_TOO_LARGE, before any work is done, if the answer or the work would be too large."""
    rows, path = prepared.rows, prepared.sent.path
    if rows.least_bytes is not None:
        check_answer_size(int(rows.least_bytes.sum()), model.limits, path, advice)
    limit = model.limits.stream_tokens
    if rows.copies is not None and prepared.tokens > limit:
        about = f"the masked copies of these texts have {prepared.tokens} tokens, and the limit of one call is {limit}"
        raise too_large(path, f"{about}: send fewer or shorter texts, or {advice}")
