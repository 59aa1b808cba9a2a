"""Cuts a job into pieces, gives each to the least loaded worker, and tries again those that a lost worker had."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.callers import NOBODY, Caller
from bertstream.server.core.dispatch.attempts import MAX_DEATHS, Attempts
from bertstream.server.core.dispatch.cutting import cut
from bertstream.server.core.dispatch.fleet import MIN_PIECE_TOKENS, Fleet
from bertstream.server.core.dispatch.link import WorkerLink
from bertstream.server.core.errors import RequestError
from bertstream.workers.contract import BULK, INTERACTIVE, Batch, Failure, OutputOptions, Result, Work

_OF_ONE_TEXT = ("INTERNAL", "OUT_OF_MEMORY", "POISONOUS_INPUT")  # reasons that a single text of several may have caused


@dataclass(frozen=True, slots=True)
class Job:
    """Texts that share their output options."""

    batch: Batch
    output_options: OutputOptions
    priority: int = INTERACTIVE
    deadline: float = math.inf  # time.monotonic()
    caller: Caller = NOBODY


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of some texts of a job: outputs of all of them, or one error for all of them."""

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


class Dispatcher(Fleet):
    """The workers of one model, and how jobs are shared out among them."""

    async def run(self, job: Job) -> list[Outcome]:
        """Return the outcomes of all texts, in their order; cancelling this cancels the workers' work too."""
        pieces = [_Piece(job, start, batch) for start, batch in cut(job.batch, self._piece_tokens(job))]
        if len(pieces) == 1:
            return await self._run_piece(pieces[0])
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run_piece(piece)) for piece in pieces]
        return [outcome for task in tasks for outcome in task.result()]

    def _piece_tokens(self, job: Job) -> int:
        """Return the tokens of one piece: an even share for each live worker, within the limit of a short batch.

        Bulk work stays whole, since its many jobs keep all workers busy.
        """
        if job.priority == BULK:
            return self.batch_tokens
        share = -(-job.batch.ids.size // max(1, len(self.live)))
        # With room for one more text, no piece is below its share, and no sliver is left over for a piece of its own.
        return min(self.interactive_tokens, max(MIN_PIECE_TOKENS, share + int(job.batch.lengths.max(initial=1)) - 1))

    async def _run_piece(self, piece: _Piece, *, deaths: int = 0, alone: bool = False) -> list[Outcome]:
        """Return one outcome, or one for each text where the piece failed and its texts are tried one by one."""
        job = piece.job
        # Any of several texts may have killed the worker, so they are tried one by one after the first death already.
        most = MAX_DEATHS if piece.texts == 1 else 1
        attempts = Attempts(self, job.deadline, waits=job.priority == BULK, deaths=deaths, most=most, caller=job.caller)

        def attempt(link: WorkerLink) -> Awaitable[Result | Failure]:
            apart = alone or attempts.deaths > 0
            return link.call(
                Work(
                    0,
                    piece.batch,
                    job.output_options,
                    job.priority,
                    job.deadline,
                    alone=apart,
                    caller=job.caller.name,
                    weight=job.caller.weight,
                    admitted=attempts.admitted,
                )
            )

        try:
            return [_outcome(piece, await attempts.run(attempt))]
        except RequestError as error:
            if piece.texts == 1 or error.reason not in _OF_ONE_TEXT:
                return [_failed(piece, error)]
        singles = [_Piece(job, piece.start + start, batch) for start, batch in cut(piece.batch, 1)]
        tried = [await self._run_piece(single, deaths=attempts.deaths, alone=True) for single in singles]
        return [outcome for outcomes in tried for outcome in outcomes]


def _outcome(piece: _Piece, result: Result) -> Outcome:
    return Outcome(piece.start, piece.texts, result.tensors, None, result.queue_seconds, result.compute_seconds)


def _failed(piece: _Piece, error: RequestError) -> Outcome:
    return Outcome(piece.start, piece.texts, {}, error)
