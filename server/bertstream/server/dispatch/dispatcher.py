"""Cuts a job into pieces, gives each to the least loaded worker, and sees to it that none is lost with a worker."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server import errors
from bertstream.server.dispatch.link import WorkerLink, WorkerLost
from bertstream.server.errors import RequestError
from bertstream.workers.contract import BULK, INTERACTIVE, Batch, Failure, Result, Wishes, Work
from bertstream.workers.ragged import starts_of

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
        self._worker_wait_seconds = worker_wait_seconds
        self._links = [WorkerLink(path, self._link_changed) for path in sockets]

    @property
    def workers(self) -> int:
        """How many there should be."""
        return len(self._links)

    @property
    def live(self) -> list[WorkerLink]:
        """Those that can take work now."""
        return [link for link in self._links if link.alive]

    async def wait_live(self) -> None:
        """Returns once every worker has greeted."""
        while len(self.live) < self.workers:
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Drops all connections."""
        for link in self._links:
            await link.close()

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
        live = self.live
        budget = min((link.hello.batch_tokens for link in live if link.hello), default=MIN_PIECE_TOKENS)
        if job.priority == BULK:
            return budget
        share = -(-job.batch.ids.size // max(1, len(live)))
        return min(budget, max(MIN_PIECE_TOKENS, share))

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
        give_up = time.monotonic() + self._worker_wait_seconds
        while True:
            link = await self._least_loaded(give_up, job.deadline)
            try:
                answer = await link.call(work)
            except WorkerLost as lost:
                if lost.running:
                    raise _Suspect from None
                continue
            if isinstance(answer, Failure) and answer.reason == "queue_full" and job.priority == BULK:
                await asyncio.sleep(_QUEUE_FULL_SECONDS)  # bulk work waits where interactive work is refused
            elif isinstance(answer, Failure):
                raise _failure(answer, job)
            else:
                return _outcome(piece, answer)

    async def _least_loaded(self, give_up: float, deadline: float) -> WorkerLink:
        while not (live := self.live):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(min(give_up, deadline) - time.monotonic(), 0.0))
            except TimeoutError:
                if deadline <= give_up:
                    raise errors.deadline_exceeded() from None
                raise errors.worker_lost("no worker is alive; one is being started") from None
        return min(live, key=lambda link: link.tokens)

    def _link_changed(self) -> None:
        self._changed.set()
        self._on_change()


class _Suspect(Exception):
    """A worker died while it computed this."""


def cut(batch: Batch, piece_tokens: int) -> list[tuple[int, Batch]]:
    """Consecutive pieces of at most so many tokens, or of one text, each with the index of its first text."""
    starts = starts_of(batch.lengths)
    ends = starts + batch.lengths
    pieces: list[tuple[int, Batch]] = []
    first = 0
    while first < starts.size:
        fitting = int(np.searchsorted(ends, starts[first] + piece_tokens, side="right"))
        last = max(fitting, first + 1)
        rows = slice(int(starts[first]), int(ends[last - 1]))
        type_ids = None if batch.type_ids is None else batch.type_ids[rows]
        pieces.append((first, Batch(batch.ids[rows], batch.lengths[first:last], type_ids)))
        first = last
    return pieces


def _outcome(piece: _Piece, result: Result) -> Outcome:
    return Outcome(piece.start, piece.texts, result.tensors, None, result.queue_seconds, result.compute_seconds)


def _failed(piece: _Piece, error: RequestError) -> Outcome:
    return Outcome(piece.start, piece.texts, {}, error)


def _failure(failure: Failure, job: Job) -> RequestError:
    if failure.reason == "expired":
        return errors.deadline_exceeded()
    if failure.reason == "queue_full":
        return errors.overloaded(failure.message, 1.0)
    return errors.out_of_memory() if failure.reason == "out_of_memory" else errors.internal()
