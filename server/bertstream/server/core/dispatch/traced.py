"""One attempt at a piece of work as a span, with the worker's own seconds as spans within it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from bertstream.server.core import tracing
from bertstream.server.core.dispatch.link import WorkerLink, WorkerLost
from bertstream.workers.contract import Failure

Answer = TypeVar("Answer")


class _Timed(Protocol):
    @property
    def queue_seconds(self) -> float: ...

    @property
    def compute_seconds(self) -> float: ...


async def traced(attempt: Callable[[WorkerLink], Awaitable[Answer | Failure]], link: WorkerLink) -> Answer | Failure:
    """Make an attempt. A worker tells how long the work waited and was computed, but only once it has answered."""
    with tracing.span("attempt") as span:
        if not span.recorded:
            return await attempt(link)
        if link.hello is not None:
            span.set(worker=link.hello.worker, pid=link.hello.pid)
        sent = time.monotonic()
        try:
            answer = await attempt(link)
        except WorkerLost as lost:
            span.set(computing=lost.running)
            span.fail("WORKER_LOST")
            raise
        if isinstance(answer, Failure):
            span.fail(answer.reason.upper())
        else:
            _note(span, sent, answer)
        return answer


def _note(span: tracing.Span, sent: float, answer: object) -> None:
    """Record queue and compute, one after the other; what is left of the attempt is the way there and back."""
    timed: _Timed = answer  # type: ignore[assignment]
    queue, compute = fitted(timed.queue_seconds, timed.compute_seconds, time.monotonic() - sent)
    span.over("queue", sent, queue)
    span.over("compute", sent + queue, compute)


def fitted(queue: float, compute: float, most: float) -> tuple[float, float]:
    """Return both times in seconds, shortened so that together they last no longer than `most`."""
    queue = min(queue, most)
    return queue, min(compute, most - queue)
