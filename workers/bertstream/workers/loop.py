"""The worker's two inner threads: one prepares the next batch while the other computes."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from bertstream.workers.contract import Failure, FailureReason, Result
from bertstream.workers.engine import Prepared, Program, prepare, run
from bertstream.workers.queue import WorkQueue
from bertstream.workers.running import RunningRecord
from bertstream.workers.scheduler import Entry
from bertstream.workers.sessions import Sessions

if TYPE_CHECKING:
    from torch import Tensor

    from bertstream.workers.connections import Connection

log = logging.getLogger(__name__)

Batch = tuple[Sequence[Entry], Prepared | None]  # None: not even that could be done


class EngineLoop:
    """Takes batches from the queue, runs them, and hands the answers to the connections' writers."""

    def __init__(
        self,
        program: Program,
        work_queue: WorkQueue,
        running: RunningRecord,
        sessions: Sessions,
        last_layer: int,
        device: str = "cpu",
    ) -> None:
        self._program = program
        self._queue = work_queue
        self._running = running
        self._sessions = sessions
        self._last_layer = last_layer
        self._device = device
        self._prepared: queue.Queue[Batch | None] = queue.Queue(maxsize=1)
        self._computing_since: float | None = None
        self.batches = 0

    def start(self) -> None:
        """Starts both threads."""
        threading.Thread(target=self._prepare_forever, name="preparer", daemon=True).start()
        threading.Thread(target=self._compute_forever, name="engine", daemon=True).start()

    @property
    def computing_seconds(self) -> float:
        """How long the batch at hand has been computing; 0 when idle."""
        since = self._computing_since
        return 0.0 if since is None else time.monotonic() - since

    def _prepare_forever(self) -> None:
        while (plan := self._queue.take()) is not None:
            for entry in plan.expired:
                _fail(entry, "expired", "the deadline passed while the work waited")
            if not plan.batch:
                continue
            try:
                prepared = self._prepare(plan.batch)
            except Exception:  # as it will again in the engine, which halves the batch until what is broken is alone
                prepared = None
            self._prepared.put((plan.batch, prepared))
        self._prepared.put(None)

    def _prepare(self, entries: Sequence[Entry]) -> Prepared:
        return prepare([entry.work for entry in entries], self._last_layer, self._device)

    def _compute_forever(self) -> None:
        while True:
            if self._prepared.empty():
                self._queue.engine_is_idle()
            batch = self._prepared.get()
            if batch is None:
                return
            self._compute(*batch)

    def _compute(self, entries: Sequence[Entry], prepared: Prepared | None) -> None:
        """Runs one batch; one that fails is run again in halves, until what fails stands alone."""
        self._running.set((_connection(entry).number, entry.work.id) for entry in entries)
        self._computing_since = started = time.monotonic()
        failed: FailureReason | None = None
        try:
            keys = [(entry.source, entry.work.session) for entry in entries]
            outputs = run(self._program, prepared or self._prepare(entries), self._sessions, keys)
        except Exception as error:  # any failure of the model belongs to this batch alone
            if is_fatal(error):
                raise
            failed = _failed(entries, error)
        self._computing_since = None
        self._running.clear()
        if failed:  # not handled above, since the error holds on to the tensors of the batch
            self._halve(entries, failed)
        else:
            self._answer(entries, outputs, started)

    def _answer(self, entries: Sequence[Entry], outputs: Sequence[dict[str, Tensor]], started: float) -> None:
        seconds = time.monotonic() - started
        self.batches += 1
        for entry, tensors in zip(entries, outputs, strict=True):
            _answer(entry, tensors, started - entry.arrival, seconds)

    def _halve(self, entries: Sequence[Entry], reason: FailureReason) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if len(entries) == 1:
            _fail(entries[0], reason, "the model could not compute this")
            return
        middle = len(entries) // 2
        for half in (entries[:middle], entries[middle:]):
            self._compute(half, None)


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch raises where memory runs out: on the CPU, and within a program, a plain RuntimeError."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "allocate memory" in str(error) or "out of memory" in str(error)


def is_fatal(error: BaseException) -> bool:
    """True for errors of the GPU itself, after which nothing works any more in this process."""
    broken = isinstance(error, torch.AcceleratorError) or "CUDA error:" in str(error)
    return broken and not is_out_of_memory(error)


def _failed(entries: Sequence[Entry], error: Exception) -> FailureReason:
    """Logs why a batch failed."""
    reason: FailureReason = "out_of_memory" if is_out_of_memory(error) else "internal"
    if len(entries) > 1:
        log.warning("a batch of %d failed and is run again in halves: %s", len(entries), error)
    else:
        log.error("work of %d tokens failed (%s): %s", entries[0].tokens, reason, error, exc_info=error)
    return reason


def _connection(entry: Entry) -> Connection:
    source: Connection = entry.source
    return source


def _fail(entry: Entry, reason: FailureReason, message: str) -> None:
    failure = Failure(entry.work.id, reason, message)
    _connection(entry).reply(lambda: failure)


def _answer(entry: Entry, tensors: dict[str, Tensor], queued: float, computed: float) -> None:
    def make() -> Result:
        return Result(entry.work.id, {name: t.numpy() for name, t in tensors.items()}, queued, computed)

    _connection(entry).reply(make)
