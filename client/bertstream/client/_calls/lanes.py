"""The calls that one bulk stream is spread over, each a lane: which of them takes the next message.

A stream through several servers has a lane for each. A lane is opened when there is a message that no open one is free
for, so a short stream stays with one server; each message goes to the lane with the least under way, so a faster server
gets more of them. So that it does in a stream that is shorter than the windows, too, a lane begins with a few messages
under way, and may have one item more for each that is answered. What a broken lane had under way goes to the others.
Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bertstream.client._calls.backoff import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, backoff_seconds
from bertstream.client._errors import RpcError

READY = float("-inf")
FIRST_MESSAGES = 4  # that a lane of several may have under way before it has answered anything

Choose: TypeAlias = Callable[[Sequence[int], bool], int | None]
"""Returns which of these closed lanes is best opened, or None if the servers of none take calls; if the second argument
is true, one that is best tried all the same."""


def first(lanes: Sequence[int], at_any_cost: bool) -> int:
    """Return the first of the lanes: the choice where there is one server."""
    return lanes[0]


@dataclass(slots=True)
class Lane:
    """One call, which may be opened again after it has broken."""

    number: int
    window: int
    """How many items may be under way: as the server says, and until then a message's."""
    credit: float
    """How many may be under way by what was answered."""
    is_open: bool = False
    is_half_closed: bool = False
    under_way: set[int] = field(default_factory=set)
    """The sequence numbers of the items that were sent and not yet answered."""
    failures: int = 0  # since the last answer
    rests_until: float = READY
    error: RpcError | None = None  # which has broken it last

    def has_room(self, count: int) -> bool:
        """Return whether a message with so many items can be sent now."""
        if not self.is_open or self.is_half_closed:
            return False
        return not self.under_way or len(self.under_way) + count <= min(self.window, self.credit)

    def answered(self, sequence: int) -> None:
        """Note that an item is under way no more."""
        self.under_way.discard(sequence)
        self.credit += 1


class Lanes:
    """All lanes of a stream."""

    def __init__(
        self, count: int, window: int, choose: Choose, jitter: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        credit = FIRST_MESSAGES * window if count > 1 else float("inf")
        self._lanes = [Lane(number, window, credit) for number in range(count)]
        self._choose, self._jitter, self._clock = choose, jitter, clock

    def __getitem__(self, number: int) -> Lane:
        return self._lanes[number]

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes)

    @property
    def window(self) -> int:
        """Return how many items may be under way in all."""
        return sum(lane.window for lane in self._lanes)

    @property
    def under_way(self) -> int:
        """Return how many items are."""
        return sum(len(lane.under_way) for lane in self._lanes)

    @property
    def are_closed(self) -> bool:
        """Return whether no call is open."""
        return not any(lane.is_open for lane in self._lanes)

    def taker(self, count: int) -> Lane | None:
        """Return the lane for a message with so many items, to be opened if it is closed, or None for none now."""
        found = min((lane for lane in self._lanes if lane.has_room(count)), key=_load, default=None)
        if found is not None and not found.under_way:
            return found
        return self._closed_one(at_any_cost=False) or found

    def last_resort(self) -> Lane | None:
        """Return a closed lane that is best tried, though its server takes no calls; None while all rest."""
        return self._closed_one(at_any_cost=True)

    def rest(self, lane: Lane, error: RpcError) -> None:
        """Note that a lane has broken, and have it rest: exponentially longer, with jitter, or as the server asks."""
        lane.is_open, lane.error = False, error
        delay = backoff_seconds(lane.failures, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, self._jitter)
        lane.failures = min(lane.failures + 1, 16)
        lane.rests_until = self._clock() + max(delay, error.retry_after or 0.0)

    def shortest_rest(self) -> tuple[float, Lane]:
        """Return in how many seconds the first of the closed lanes has rested. It is taken to be ready then."""
        lane = min((lane for lane in self._lanes if not lane.is_open), key=lambda lane: lane.rests_until)
        seconds = max(0.0, lane.rests_until - self._clock())
        lane.rests_until = READY
        return seconds, lane

    def _closed_one(self, at_any_cost: bool) -> Lane | None:
        now = self._clock()
        closed = [lane.number for lane in self._lanes if not lane.is_open and lane.rests_until <= now]
        chosen = self._choose(closed, at_any_cost) if closed else None
        return None if chosen is None else self._lanes[chosen]


def _load(lane: Lane) -> int:
    return len(lane.under_way)
