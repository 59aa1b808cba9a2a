"""A bulk stream without its I/O: what to pull, send, wait for and hand out next.

The synchronous and the asynchronous client both ask `step()` what to do, do it, and tell the stream the outcome.
Nothing here blocks, or knows a channel. Memory is bounded by the windows that the servers announce for their calls:

    pulled  --send-->  under way (at most one window)  --answer-->  done (at most another window)  --Emit-->  caller

An item is kept until its answer is complete, so that it can be sent again, over whichever call, if its own breaks;
items that were answered are never sent again. An item that the server refuses for now, as it says when to come again,
is sent again then. Where the stream cannot go on, what has come is handed out before the error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import Any, Generic, TypeVar

import numpy as np

from bertstream.client._calls.backoff import may_pass
from bertstream.client._calls.codec import Codec, Started
from bertstream.client._calls.lanes import Choose, Lane, Lanes, first
from bertstream.client._calls.refused import Refused, may_pass_later
from bertstream.client._calls.steps import Emit, HalfClose, Open, Pull, Receive, Send, Sleep, Step, Stop
from bertstream.client._chance import CHANCE
from bertstream.client._errors import (
    DeadlineExceeded,
    InvalidArgument,
    RpcError,
    Unavailable,
    error_from_status,
    unexpected_response,
    with_callers_indexes,
)
from bertstream.client._reports import EffectiveOptions, Report, ReportOption
from bertstream.client._texts import ITEMS, Group, MessageLimits, PreparedText, check_size, cut
from bertstream.client._usage import NO_COST, Cost, joined_cost
from bertstream.v1 import types_pb2 as types

V = TypeVar("V")  # the answer for one item
B = TypeVar("B")  # what the caller gets

HELD_BYTES = 64 << 20  # of large answers: about this much is under way, and at most twice that waits to be handed out


@dataclass(slots=True)
class StreamCounts:
    """What has come back so far."""

    texts: int = 0
    failed: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How a stream behaves: what the caller asked for, and the limits of messages."""

    ordered: bool = True
    collect_errors: bool = False
    batch_size: int = 64
    report: ReportOption = None
    limits: MessageLimits = field(default_factory=MessageLimits)
    reconnect_seconds: float = 30.0
    calls: int = 1
    """How many calls the stream may have at once."""


class BulkStream(Generic[V, B]):
    """The state of one stream; see the module's docstring."""

    def __init__(
        self,
        codec: Codec[V, B],
        config: StreamConfig,
        choose: Choose = first,
        jitter: Callable[[], float] = CHANCE.random,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.counts = StreamCounts()
        self._codec, self._config = codec, config
        texts = min(config.batch_size, config.limits.texts)
        self._limits = config.limits._replace(texts=texts)
        self._typical_bytes = codec.typical_bytes
        # input
        self._next_sequence = 0
        self._has_ids: bool | None = None
        self._ended = False
        # the calls
        self._lanes = Lanes(config.calls, texts, choose, jitter, clock)
        self._outbox: deque[Group] = deque()
        self._waited = 0.0  # for any call to be taken, since the last answer
        self._refused = Refused(config.reconnect_seconds, jitter, clock)
        self._failure: RpcError | None = None  # why it cannot go on
        # items, by sequence number
        self._ids: dict[int, int] = {}  # the caller's ids of items that were pulled and not yet handed out
        self._items: dict[int, PreparedText] = {}  # pulled, not yet answered
        self._pieces: dict[int, list[Any]] = {}  # answered in part, on this call
        self._done: dict[int, V | RpcError] = {}  # answered, not yet handed out; in the order of the answers
        self._costs: dict[int, Cost] = {}  # of the items in _done; the first item of a message has all of its usage
        self._options: EffectiveOptions | None = None  # None until the server reports them
        self._first = self._ready_end = 0  # if ordered: the next item to hand out, and the first that is not done
        self._failed_ready = False
        self._emitted_last = False

    @property
    def finished(self) -> bool:
        """Whether everything is answered and handed out."""
        return self._ended and not self._items and not self._done

    def step(self) -> Step[B]:
        """Return what to do next.

        Raises the exception of a failed item when its turn comes, unless errors are collected; and what keeps the
        stream from going on, after all that had come.
        """
        step = self._connection_step() if self._failure is None else None
        if step is not None:
            return step
        if self._failure is not None:
            if not self._ready():
                raise self._failure
            return Emit(self._take_batch())
        count, ready = self._room(), self._is_batch_ready()
        if ready and not (count and self._emitted_last):  # in turns, so that neither the server nor the caller starves
            self._emitted_last = True
            return Emit(self._take_batch())
        if count:
            self._emitted_last = False
            return Pull(count)
        return Stop() if self.finished else Receive()

    def add(self, texts: Sequence[object]) -> None:
        """Add pulled texts or (id, text) tuples. Raises TypeError for what is not a text, or if only some have ids.

        Raises ValueError for an id that is not an int64.
        """
        sendable: list[tuple[int, PreparedText]] = []
        for given in texts:
            sequence, item_id, text = self._numbered(given)
            self._ids[sequence] = item_id
            try:
                item = self._codec.prepare(text, sequence)
                check_size(item, self._limits, sequence, ITEMS)
            except InvalidArgument as error:
                error.item_id = item_id
                self._finish(sequence, error)
            else:
                self._items[sequence] = item
                sendable.append((sequence, item))
        self._outbox.extend(cut(sendable, self._limits))

    def end(self) -> None:
        """Note that the input has no more texts."""
        self._ended = True

    def options(self) -> Any:
        """Return the request that opens a call."""
        return self._codec.options()

    def opened(self, lane: int = 0) -> None:
        """Note that a call was opened."""
        self._lanes[lane].is_open, self._lanes[lane].is_half_closed = True, False

    def receive(self, response: Any, lane: int = 0) -> None:
        """Take a response of a call. Raises Internal if it makes no sense."""
        event, call = self._codec.parse(response), self._lanes[lane]
        if isinstance(event, Started):
            call.window = event.max_items if event.max_items > 0 else call.window
            self._options = event.options
            return
        if event.more and len(event.pieces) != 1:
            raise unexpected_response(f"{len(event.pieces)} items that go on in a later message")
        for sequence, piece in event.pieces:
            self._answer(sequence, piece, event.more, call)
        if event.cost:
            self._count([sequence for sequence, _ in event.pieces], event.cost)
        if event.pieces:
            self._refused.answered()
        for failure in event.errors:
            self._fail(failure, call)
        call.failures, self._waited = 0, 0.0

    def broken(self, error: RpcError | None, lane: int = 0) -> None:
        """Note that a call has ended, with an error or without."""
        call = self._lanes[lane]
        unanswered, call.under_way = call.under_way, set()
        call.is_open = False
        if error is None:
            if unanswered or (self._items and not call.is_half_closed):
                self.fail(unexpected_response(f"the stream ended with {len(self._items)} items unanswered"))
        elif not may_pass(error):
            self.fail(error)
        elif self._items:
            self._lanes.rest(call, error)
            self._send_again(unanswered)

    def fail(self, error: RpcError) -> None:
        """Note that the stream cannot go on: what has come is handed out, and then this is raised."""
        self._failure = self._failure or error

    def _connection_step(self) -> Step[B] | None:
        if self._refused:
            self._send_again(self._refused.due())
        if not self._outbox:
            return self._await_refused() if self._refused else self._half_close()
        count, under_way = len(self._outbox[0].indexes), self._lanes.under_way
        if under_way and under_way + count > self._most_under_way():
            return None
        lane = self._lanes.taker(count)
        if lane is None and self._lanes.are_closed:
            lane = self._lanes.last_resort()
            if lane is None:
                return self._wait()
        if lane is None:
            return None
        if not lane.is_open:
            return Open(lane.number)
        group = self._outbox.popleft()
        lane.under_way.update(group.indexes)
        return Send(self._codec.request(group), lane.number)

    def _half_close(self) -> HalfClose | None:
        if not self._ended:
            return None
        lane = next((lane for lane in self._lanes if lane.is_open and not lane.is_half_closed), None)
        if lane is None:
            return None
        lane.is_half_closed = True
        return HalfClose(lane.number)

    def _wait(self) -> Sleep | None:
        """Return how long to wait until a call may be opened again, or give up."""
        seconds, lane = self._lanes.shortest_rest()
        self._waited += seconds
        error = lane.error or Unavailable("no server takes calls")
        if self._waited > self._config.reconnect_seconds:
            self.fail(error)
            return None
        return Sleep(seconds, error)

    def _await_refused(self) -> Sleep | None:
        """Return how long to wait until what was refused may come again, where nothing else is to be done."""
        error = self._refused.error
        if error is None or self._lanes.under_way or self._room() or self._is_batch_ready():
            return None
        return Sleep(self._refused.rest(), error)

    def _send_again(self, sequences: Collection[int]) -> None:
        """Put what a broken call has not answered before all that waits."""
        for sequence in sequences:
            self._pieces.pop(sequence, None)
        groups = list(cut([(sequence, self._items[sequence]) for sequence in sorted(sequences)], self._limits))
        self._outbox.extendleft(reversed(groups))

    def _most_under_way(self) -> int:
        """Return how many items may be under way: the servers' windows, or fewer if answers are large."""
        if not self._typical_bytes:
            return self._lanes.window
        return max(1, min(self._lanes.window, HELD_BYTES // self._typical_bytes))

    def _room(self) -> int:
        """Return how many texts to pull: enough for a message, or none until there is room for one."""
        if self._ended or self._has_failed():
            return 0
        window = self._most_under_way()
        message = min(self._limits.texts, max(1, window // 2))
        under_way, held = len(self._items), len(self._ids)
        room = min(window - under_way, 2 * window + self._config.batch_size - held)
        return min(room, self._limits.texts) if room >= message else 0

    def _has_failed(self) -> bool:
        return self.counts.failed > 0 and not self._config.collect_errors

    def _ready(self) -> int:
        return self._ready_end - self._first if self._config.ordered else len(self._done)

    def _is_batch_ready(self) -> bool:
        last = (self._ended and not self._items) or self._failed_ready
        return self._ready() >= (1 if last else self._config.batch_size)

    def _take_batch(self) -> B:
        count = min(self._ready(), self._config.batch_size)
        ordered = self._config.ordered
        sequences = list(range(self._first, self._first + count) if ordered else islice(self._done, count))
        outcomes = [self._done[sequence] for sequence in sequences]
        if self._failed_ready:
            outcomes = _until_error(outcomes)
        for sequence in sequences[: len(outcomes)]:
            del self._done[sequence]
        self._first += len(outcomes)
        ids = [self._ids.pop(sequence) for sequence in sequences[: len(outcomes)]]
        costs = [self._costs.pop(sequence) for sequence in sequences[: len(outcomes)] if sequence in self._costs]
        return self._codec.batch(ids, outcomes, joined_cost(costs))

    def _numbered(self, given: object) -> tuple[int, int, object]:
        has_id = isinstance(given, tuple) and len(given) == 2 and _is_number(given[0])
        if self._has_ids not in (None, has_id):
            raise TypeError("give either all items as (id, text), or none")
        self._has_ids = has_id
        sequence = self._next_sequence
        self._next_sequence += 1
        if isinstance(given, tuple) and has_id:
            return sequence, _id(given[0], sequence), given[1]
        return sequence, sequence, given

    def _answer(self, sequence: int, piece: Any, more: bool, lane: Lane) -> None:
        if sequence not in self._items:
            raise unexpected_response(f"an answer for id {sequence}, which is not under way")
        if more:
            self._pieces.setdefault(sequence, []).append(piece)
            return
        answer = self._codec.joined([*self._pieces.pop(sequence, ()), piece])
        size = self._codec.bytes_of(answer)
        self._typical_bytes = max(size, (7 * self._typical_bytes + size) // 8)
        self._settle(sequence, lane)
        self._finish(sequence, answer)

    def _count(self, sequences: Sequence[int], cost: Cost) -> None:
        """Note the cost of a message that has answered these items."""
        self.counts.tokens += cost.usage.tokens
        for sequence in sequences:
            self._costs[sequence] = cost if sequence == sequences[0] else cost._replace(usage=NO_COST.usage)
        if self._config.report and self._options:
            self._config.report(Report(self._options, *cost))

    def _fail(self, failure: types.ItemError, lane: Lane) -> None:
        if failure.id not in self._items:
            raise unexpected_response(f"an error for id {failure.id}, which is not under way")
        self._pieces.pop(failure.id, None)
        error = error_from_status(failure.status, self._ids[failure.id])
        error = with_callers_indexes(error, lambda _: failure.id)
        if isinstance(error, DeadlineExceeded):  # which is the call's, and so that of all other items
            self.fail(error)
        elif not may_pass_later(error):
            self._settle(failure.id, lane)
            self._finish(failure.id, error)
        elif self._refused.add(failure.id, error):
            lane.under_way.discard(failure.id)
        else:
            self.fail(error)

    def _settle(self, sequence: int, lane: Lane) -> None:
        del self._items[sequence]
        lane.answered(sequence)

    def _finish(self, sequence: int, outcome: V | RpcError) -> None:
        self._done[sequence] = outcome
        self.counts.texts += 1
        self.counts.failed += isinstance(outcome, RpcError)
        if not self._config.ordered:
            self._failed_ready = self._has_failed()
            return
        while self._ready_end in self._done:
            failed = isinstance(self._done[self._ready_end], RpcError)
            self._failed_ready |= failed and not self._config.collect_errors
            self._ready_end += 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _id(given: Any, index: int) -> int:
    """Return a caller's id of the item at this index. Raises ValueError for one that is not an int64."""
    if not -(2**63) <= given < 2**63:
        raise ValueError(f"item {index}: its id must be from -2**63 to 2**63 - 1, not {given}")
    return int(given)


def _until_error(outcomes: list[V | RpcError]) -> list[V | RpcError]:
    """Return the outcomes before the first error. Raises that error if it comes first."""
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, RpcError):
            if index == 0:
                raise outcome
            return outcomes[:index]
    return outcomes
