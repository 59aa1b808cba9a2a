"""Cuts a job into pieces, gives each to the least loaded worker, and sees to it that none is lost with a worker."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core import errors
from bertstream.server.core.dispatch.cutting import cut
from bertstream.server.core.dispatch.link import WorkerLink, WorkerLost
from bertstream.server.core.errors import RequestError
from bertstream.workers.contract import BULK, INTERACTIVE, Batch, Failure, Result, Wishes, Work

MAX_DEATHS = 3  # workers that may die computing one text before it is refused
_QUEUE_FULL_SECONDS = 0.1
MIN_PIECE_TOKENS = 512  # smaller pieces gain nothing from another worker


@dataclass(frozen=True, slots=True)
class Job:
    """Texts that share their wishes."""

    batch: Batch
    wishes: Wishes
    priority: int = INTERACTIVE
    deadline: float = math.inf  # time.monotonic()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of some texts of a job: outputs of all of them, or one error for all of them."""

    start: int  # the first text's index in the job
    texts: int
    tensors: Mapping[str, NDArray[np.generic]]  # rows of these texts only
    error: RequestError | None = None
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Piece:
    job: Job
    start: int
    batch: Batch

    @property
    def texts(self) -> int:
        return int(self.batch.lengths.size)


class Dispatcher:
    """The workers of one model, as one frontend sees them."""

    def __init__(self, sockets: Sequence[str], worker_wait_seconds: float, on_change: Callable[[], None]) -> None:
        self._changed = asyncio.Event()
        self._on_change = on_change
        self.worker_wait_seconds = worker_wait_seconds
        self._links = [WorkerLink(path, self._link_changed) for path in sockets]
        self._closed = False

    @property
    def workers(self) -> int:
        """How many there should be."""
        return len(self._links)

    @property
    def live(self) -> list[WorkerLink]:
        """Those that can take work now."""
        return [link for link in self._links if link.alive]

    @property
    def batch_tokens(self) -> int:
        """Tokens that every live worker takes in one batch."""
        return min((link.hello.batch_tokens for link in self.live if link.hello), default=MIN_PIECE_TOKENS)

    @property
    def cache_tokens(self) -> int:
        """Tokens of one generation that every worker takes; 0 where the model does not generate."""
        return min((link.cache_tokens for link in self._links if link.cache_tokens), default=0)

    async def wait_live(self) -> None:
        """Returns once every worker has greeted."""
        while len(self.live) < self.workers:
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Drops all connections; what is under way fails."""
        self._closed = True
        for link in self._links:
            await link.close()
        self._changed.set()

    async def run(self, job: Job) -> list[Outcome]:
        """The outcomes of all texts, in their order. Cancelling it cancels the work at the workers."""
        pieces = [_Piece(job, start, batch) for start, batch in cut(job.batch, self._piece_tokens(job))]
        if len(pieces) == 1:
            return await self._run_piece(pieces[0])
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run_piece(piece)) for piece in pieces]
        return [outcome for task in tasks for outcome in task.result()]

    def _piece_tokens(self, job: Job) -> int:
        """An even share for each live worker, within what a batch may have. Bulk work comes in many: it stays whole."""
        if job.priority == BULK:
            return self.batch_tokens
        share = -(-job.batch.ids.size // max(1, len(self.live)))
        # With room for one more text, no piece is below its share, and no sliver is left over for a piece of its own.
        return min(self.batch_tokens, max(MIN_PIECE_TOKENS, share + int(job.batch.lengths.max(initial=1)) - 1))

    async def _run_piece(self, piece: _Piece) -> list[Outcome]:
        """One outcome; or one for each text, where the piece failed as a whole and its texts are tried one by one."""
        try:
            return [await self._send(piece, alone=False)]
        except (_Suspect, RequestError) as error:
            if piece.texts == 1 and isinstance(error, RequestError):
                return [_failed(piece, error)]
            if isinstance(error, RequestError) and error.reason not in ("INTERNAL", "OUT_OF_MEMORY"):
                return [_failed(piece, error)]
        singles = [_Piece(piece.job, piece.start + start, batch) for start, batch in cut(piece.batch, 1)]
        return [await self._run_alone(single) for single in singles]

    async def _run_alone(self, piece: _Piece) -> Outcome:
        for _ in range(MAX_DEATHS - 1):
            try:
                return await self._send(piece, alone=True)
            except _Suspect:
                continue
            except RequestError as error:
                return _failed(piece, error)
        return _failed(piece, errors.poisonous(MAX_DEATHS))

    async def _send(self, piece: _Piece, *, alone: bool) -> Outcome:
        """Sends until a worker has answered; work that was lost while it only waited goes to the next worker."""
        job = piece.job
        work = Work(0, piece.batch, job.wishes, job.priority, job.deadline, alone)
        give_up = time.monotonic() + self.worker_wait_seconds
        while True:
            link = await self.least_loaded(give_up, job.deadline)
            try:
                answer = await link.call(work)
            except WorkerLost as lost:
                if lost.running:
                    raise _Suspect from None
                continue
            if isinstance(answer, Failure) and answer.reason == "queue_full" and job.priority == BULK:
                await self.back_off()  # bulk work waits where interactive work is refused
            elif isinstance(answer, Failure):
                raise failure(answer)
            else:
                return _outcome(piece, answer)

    async def least_loaded(self, give_up: float, deadline: float) -> WorkerLink:
        """The live worker with the least under way. Raises WORKER_LOST or DEADLINE_EXCEEDED where none comes back."""
        while not (live := self.live):
            if self._closed:
                raise errors.model_replaced()
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(min(give_up, deadline) - time.monotonic(), 0.0))
            except TimeoutError:
                if deadline <= give_up:
                    raise errors.deadline_exceeded() from None
                raise errors.worker_lost("no worker is alive; one is being started") from None
        return min(live, key=lambda link: link.tokens)

    async def back_off(self) -> None:
        """Waits a moment, as a worker's queue is full."""
        await asyncio.sleep(_QUEUE_FULL_SECONDS)

    def _link_changed(self) -> None:
        self._changed.set()
        self._on_change()


class _Suspect(Exception):
    """A worker died while it computed this."""


def _outcome(piece: _Piece, result: Result) -> Outcome:
    return Outcome(piece.start, piece.texts, result.tensors, None, result.queue_seconds, result.compute_seconds)


def _failed(piece: _Piece, error: RequestError) -> Outcome:
    return Outcome(piece.start, piece.texts, {}, error)


def failure(answer: Failure) -> RequestError:
    """What a caller is told of a worker's failure."""
    if answer.reason == "expired":
        return errors.deadline_exceeded()
    if answer.reason == "queue_full":
        return errors.overloaded(answer.message, 1.0)
    return errors.out_of_memory() if answer.reason == "out_of_memory" else errors.internal()
