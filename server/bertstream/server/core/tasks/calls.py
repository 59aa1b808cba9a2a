"""Run a task on the items of a message whose answer is one message, too, so that it fails as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core import tracing
from bertstream.server.core.computing import Terms, before_failure, check_answer_size
from bertstream.server.core.dispatch import Job, Outcome
from bertstream.server.core.errors import RequestError, too_large
from bertstream.server.core.models import ServedModel
from bertstream.server.core.preparation import refuse_failed
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.base import Rows, Task
from bertstream.server.core.tasks.gathering import gather, tensor_sizes, window_costs

Written = TypeVar("Written")
Begin = Callable[[], tuple[Task[Any], SentItems]]  # makes the task and finds its items; it runs in a thread
_FEWER = "send fewer texts, or ask for fewer numbers"  # where only the computed answer is too large


@dataclass(frozen=True, slots=True)
class PreparedItems:
    """Hold the items of a message as rows of a task."""

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

    def window_costs(self, model: ServedModel) -> NDArray[np.int64]:
        """Return what each row takes of a stream's window, [r]: its tokens, and more where its outputs may be large."""
        sizes = tensor_sizes(self.task.output_options, model.description)
        return window_costs(self.rows, sizes, model.limits.stream_tokens / model.limits.stream_bytes)


@dataclass(frozen=True, slots=True)
class AnsweredItems(Generic[Written]):
    """Hold the answers of a task to consecutive items, at least one."""

    items: int
    answer: object  # as the task gives it
    written: Written  # as the protocol has it
    outcomes: Sequence[Outcome]  # for their times


async def prepare_items(model: ServedModel, begin: Begin, advice: str) -> PreparedItems:
    """Make the rows in a thread. Raises what `begin` does, INVALID_ARGUMENT naming items, or REQUEST_TOO_LARGE.

    advice: what else to call where one call's answer or work would be too large.
    """
    prepared = await prepare_each(model, begin)
    refuse_failed(prepared.rows.failed)
    _check_sizes(prepared, model, advice)
    return prepared


async def prepare_each(model: ServedModel, begin: Begin) -> PreparedItems:
    """Make the rows in a thread; items that are wrong have none, and their error is in `rows.failed`."""

    def rows_of() -> tuple[Task[Any], SentItems, Rows[Any]]:
        task, sent = begin()
        return task, sent, task.prepare(sent)

    started = time.monotonic()
    with tracing.span("tokenize") as span:
        task, sent, rows = await model.in_thread(rows_of)
        span.set(texts=rows.truncated.size, tokens=rows.batch.ids.size)
    return PreparedItems(task, sent, rows, time.monotonic() - started)


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
    items = slice(0, prepared.items)
    answered, error = await answer_some(model, prepared, items, write, terms, waits=waits, as_one=True)
    if error is not None:
        raise error
    assert answered is not None
    return answered


async def answer_some(
    model: ServedModel,
    prepared: PreparedItems,
    which: slice,
    write: Callable[[Any], Written],
    terms: Terms,
    *,
    waits: bool,
    as_one: bool = False,
) -> tuple[AnsweredItems[Written] | None, RequestError | None]:
    """Answer some of the items, all of which have rows, as `answer_items` does.

    Return the answer to those before the first that fails, None where there is none, and the error.

    as_one: whether all of it goes into one message. Raises REQUEST_TOO_LARGE where it is too large for that.
    """
    task, rows = prepared.task, prepared.rows
    first, last = np.searchsorted(rows.items, (which.start, which.stop)).tolist()
    tokens, items = int(rows.costs[first:last].sum()), which.stop - which.start
    terms.check_deadline()
    async with model.admission.room(tokens, terms.caller, task.priority, texts=items, waits=waits):
        batch = task.expand(rows, first, last)
        job = Job(batch, task.output_options, task.priority, terms.deadline, terms.caller)
        outcomes = await model.dispatcher.run(job)
    with tracing.span("wire"):
        computed, failed = gather(rows, first, last, batch, outcomes)
        end = min(failed, default=which.stop)
        error = failed.get(end)
        if end == which.start:
            return None, error
        share = computed.before(end)
        if as_one:
            check_answer_size(task.least_bytes(share), model.limits, prepared.sent.path, _FEWER)

        def answered() -> tuple[object, Written]:
            answer = task.answer(rows, share)
            return answer, write(answer)

        answer, written = await model.in_thread(answered)
    return AnsweredItems(end - which.start, answer, written, before_failure(outcomes)[0] or outcomes), error


def _check_sizes(prepared: PreparedItems, model: ServedModel, advice: str) -> None:
    """Raise REQUEST_TOO_LARGE, before any work is done, if the answer or the work would be too large."""
    rows, path = prepared.rows, prepared.sent.path
    if rows.least_bytes is not None:
        check_answer_size(int(rows.least_bytes.sum()), model.limits, path, advice)
    limit = model.limits.stream_tokens
    if rows.copies is not None and prepared.tokens > limit:
        about = f"the masked copies of these texts have {prepared.tokens} tokens, and the limit of one call is {limit}"
        raise too_large(path, f"{about}: send fewer or shorter texts, or {advice}")
