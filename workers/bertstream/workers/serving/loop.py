"""Run the worker's two inner threads: one prepares the next batch while the other computes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from bertstream.workers.contract import INTERACTIVE, Failure, FailureReason, Result
from bertstream.workers.engine.batch import Prepared, prepare
from bertstream.workers.engine.engine import Launched, launch, run
from bertstream.workers.engine.failures import FailedComputation, attempt, halve
from bertstream.workers.engine.sessions import Sessions
from bertstream.workers.programs.interface import Program
from bertstream.workers.serving.measures import WorkMeasures
from bertstream.workers.serving.outlook import overloaded
from bertstream.workers.serving.queue import WorkQueue
from bertstream.workers.serving.running_record import Computing
from bertstream.workers.serving.scheduler import Entry, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from bertstream.workers.serving.connections import Connection

R = TypeVar("R")
Taken = tuple[Sequence[Entry], Prepared | None]  # None: preparing failed
_NOTHING: Taken = ((), None)
_GLANCE_SECONDS = 0.0002  # between looks at a GPU that takes some milliseconds


class Turns(Protocol):
    """Define what the engine's thread computes besides batches, a step at a time, in turns with them."""

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when there is something to do again."""

    def turn(self) -> bool:
        """Compute one step. Returns False if there is nothing to do."""


@dataclass(slots=True)
class Flight:
    """Hold a batch that the GPU computes, while the engine goes on."""

    entries: Sequence[Entry]
    launched: Launched
    started: float  # when it was launched, or the one before it was done


class EngineLoop:
    """Take batches from the queue, run them, and hand the answers to the connections' writers.

    Interactive work goes before a batch of bulk work that is prepared already. While text is generated too, the engine
    computes one step of that, then one batch if any waits, and so on in turns.

    On a GPU, the next batch is launched before the answers of a large one are made, or the GPU would wait for them. It
    is not launched behind a small one, which is done before others could join the next.
    """

    def __init__(
        self,
        program: Program,
        work_queue: WorkQueue,
        computing: Computing,
        sessions: Sessions,
        last_layer: int,
        device: str = "cpu",
        generator: Turns | None = None,
        measures: WorkMeasures | None = None,
    ) -> None:
        self._measures = measures or WorkMeasures()
        self._program = program
        self._queue = work_queue
        self._computing = computing
        self._sessions = sessions
        self._last_layer = last_layer
        self._device = device
        self.prepared: queue.Queue[Taken | None] = queue.Queue(maxsize=1)
        self._generator = generator
        self.overlaps = device.startswith("cuda") and generator is None  # steps are computations of their own
        self._flight: Flight | None = None
        self.batches = 0

    def start(self, warm_up: Callable[[Program], Program] = lambda program: program) -> None:
        """Start both threads, and return once `warm_up` has run in the engine's thread. Raises its errors.

        `warm_up` is given the program, and returns the one that batches are run by from then on.

        No other thread may compute with several OpenMP threads. Each that does gets helpers of its own, and once there
        are more of those than cores, all of them sleep between loops, which more than doubles the time of a short text.
        """
        if self._generator is not None:
            self._generator.wake_by(self._queue.wake)  # after a batch that is ready, it looks anyway
        threading.Thread(target=self._prepare_forever, name="preparer", daemon=True).start()
        warm: Future[None] = Future()
        threading.Thread(target=self._run, args=(warm_up, warm), name="engine", daemon=True).start()
        warm.result()

    def _run(self, warm_up: Callable[[Program], Program], warm: Future[None]) -> None:
        try:
            self._program = warm_up(self._program)
        except BaseException as error:  # passed on to the thread that started this one and waits for it
            warm.set_exception(error)
            return
        warm.set_result(None)
        self._compute_forever()

    @property
    def computing_seconds(self) -> float:
        """Return how long the current batch or step has been computing; 0 when idle."""
        return self._computing.seconds

    def _prepare_forever(self) -> None:
        while (plan := self._queue.take()) is not None:
            if batch := self._batch_of(plan):
                self.prepared.put(batch)
        self.prepared.put(None)

    def _batch_of(self, plan: Plan) -> Taken | None:
        if plan.expired or plan.overloaded:
            self._refuse(plan)
        if not plan.batch:
            return None
        try:
            return plan.batch, self._prepare(plan.batch)
        except Exception:  # it will fail again in the engine, which halves the batch until the faulty work is alone
            return plan.batch, None

    def _refuse(self, plan: Plan) -> None:
        wait = self._queue.wait_seconds
        for entry in plan.expired:
            _fail(entry, "expired", "the deadline passed while the work waited", wait)
        for entry in plan.overloaded:
            _reply(entry, overloaded(entry.work, wait, wait))

    def _prepare(self, entries: Sequence[Entry]) -> Prepared:
        return prepare([entry.work for entry in entries], self._last_layer, self._device)

    def _compute_forever(self) -> None:
        while True:
            generating = self._generator is not None and self._generator.turn()
            batch = self._next(wait=not generating)
            if batch and batch[1] and self.overlaps and batch[1].only_vectors:
                self._overlap(batch[0], batch[1])
                continue
            self._land()
            if batch is None:
                return
            if batch[0]:
                self._compute(*batch)

    def _next(self, *, wait: bool) -> Taken | None:
        """Return the most urgent batch, or none; with `wait`, once there is one, or the engine is woken. None: closed.

        While a batch is under way on the GPU, it returns one only once another is prepared: what waits may yet grow.
        """
        if self._flight is not None:
            wait = False
            if not self._prepared_before(self._flight):
                return _NOTHING
        prepared_comes = wait and self._queue.wait_for_work()
        if urgent := self._batch_of(self._queue.take_now()):
            return urgent
        try:
            batch = self.prepared.get(block=prepared_comes)
        except queue.Empty:
            return _NOTHING
        self._queue.prepared_is_taken()
        return batch

    def _prepared_before(self, flight: Flight) -> bool:
        """Wait until another batch is prepared or the GPU is done with this one; return whether it is the former."""
        while self.prepared.empty():
            if flight.launched.done:
                return False
            time.sleep(_GLANCE_SECONDS)
        return True

    def _compute(self, entries: Sequence[Entry], prepared: Prepared | None, *, again: bool = False) -> None:
        """Run one batch; one that fails is run again in halves, until what fails stands alone."""
        # Bulk work soon keeps all workers busy, and is not urgent. Where more waits, other workers are busy too, and
        # threads on cores that only seemed idle would make all of it wait longer.
        hurry = not self._queue.has_more and all(entry.work.priority == INTERACTIVE for entry in entries)
        started = self._computing.begin(_keys(entries), hurry=hurry)
        keys = [(entry.source, entry.work.session) for entry in entries]
        outputs = _attempt(
            entries, lambda: run(self._program, prepared or self._prepare(entries), self._sessions, keys)
        )
        self._computing.end()
        if not again:
            self._queue.computed()
        if isinstance(outputs, FailedComputation):
            self._halve(entries, outputs.reason)
        else:
            self._answer(entries, outputs, started)

    def _overlap(self, entries: Sequence[Entry], prepared: Prepared) -> None:
        """Launch a batch, then answer the one before it, and this one too where it is small."""
        before = self._flight.entries if self._flight else ()
        started = self._computing.begin(_keys([*before, *entries]))
        launched = _attempt(entries, lambda: launch(self._program, prepared))
        self._land()
        if isinstance(launched, FailedComputation):
            self._computing.end()
            self._queue.computed()
            self._halve(entries, launched.reason)
            return
        if before:
            started = self._computing.begin(_keys(entries))  # until now, the GPU was busy with the one before
        self._flight = Flight(entries, launched, started)
        if prepared.ids.size(0) < self._queue.batch_tokens // 2:
            self._land()

    def _land(self) -> None:
        """Wait for the batch under way, if there is one, and answer it."""
        if self._flight is None:
            return
        flight, self._flight = self._flight, None
        outputs = _attempt(flight.entries, flight.launched.outputs)
        self._queue.computed()
        if not isinstance(outputs, FailedComputation):
            self._answer(flight.entries, outputs, flight.started)
        self._computing.end()
        if isinstance(outputs, FailedComputation):
            self._halve(flight.entries, outputs.reason)

    def _answer(self, entries: Sequence[Entry], outputs: Sequence[dict[str, Tensor]], started: float) -> None:
        seconds, waits = time.monotonic() - started, (self._queue.wait_seconds, self._queue.batch_seconds)
        self.batches += 1
        self._measures.computed(entries, self._queue.batch_tokens, started, seconds)  # before any caller can ask
        at_once = len(entries) == 1 and entries[0].work.priority == INTERACTIVE
        for entry, tensors in zip(entries, outputs, strict=True):
            _answer(entry, tensors, started - entry.arrival, seconds, waits, at_once=at_once)

    def _halve(self, entries: Sequence[Entry], reason: FailureReason) -> None:
        halve(
            entries,
            lambda half: self._compute(half, None, again=True),
            lambda entry: _fail(entry, reason, "the model could not compute this", self._queue.wait_seconds),
        )


def _attempt(entries: Sequence[Entry], compute: Callable[[], R]) -> R | FailedComputation:
    alone = len(entries) == 1
    name = f"work of {entries[0].tokens} tokens" if alone else f"a batch of {len(entries)}"
    return attempt(compute, name, alone=alone)


def _keys(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """Return the keys by which the record of what is computed names these entries."""
    return [(_connection(entry).number, entry.work.id) for entry in entries]


def _connection(entry: Entry) -> Connection:
    source: Connection = entry.source
    return source


def _fail(entry: Entry, reason: FailureReason, message: str, wait: float) -> None:
    _reply(entry, Failure(entry.work.id, reason, message, wait_seconds=wait))


def _reply(entry: Entry, failure: Failure) -> None:
    _connection(entry).reply(lambda: failure)


def _answer(
    entry: Entry,
    tensors: dict[str, Tensor],
    queued: float,
    computed: float,
    waits: tuple[float, float],
    *,
    at_once: bool,
) -> None:
    def make() -> Result:
        return Result(entry.work.id, {name: t.numpy() for name, t in tensors.items()}, queued, computed, *waits)

    connection = _connection(entry)
    (connection.reply_at_once if at_once else connection.reply)(make)
