"""Order waiting work of one priority: callers share the worker by tokens, each one's most urgent work goes first."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush, nlargest
from typing import Any, Generic, TypeAlias, TypeVar

from bertstream.workers.contract import Generate, Work
from bertstream.workers.serving.fluid import Fluid

W = TypeVar("W", Work, Generate)

_REMEMBERED = 4096  # callers with no work waiting who have lately had more than their share
_COUNTED = 1024  # entries of one caller, behind a new one, whose tokens are added up; further ones are estimated


@dataclass(frozen=True, slots=True, order=True)
class Queued(Generic[W]):
    """Hold waiting work of one priority, ordered by urgency, then by arrival."""

    urgency: float  # the time by which it should have begun
    arrival: float
    work: W = field(compare=False)
    source: Any = field(compare=False)  # the connection that it came from
    tokens: int = field(compare=False)
    promised: bool = field(compare=False, default=False)  # only its own deadline ends its wait, not an estimate


@dataclass(slots=True)
class _Caller(Generic[W]):
    """Hold the waiting work of one caller, the most urgent first, and the caller's place among others."""

    number: int  # ascending by when the caller began to wait
    weight: float
    start: float  # the virtual time at which its first entry begins
    entries: list[Queued[W]] = field(default_factory=list)
    tokens: int = 0
    presses: bool = False  # further work of it was refused, and is going to come again
    counted: float = 0.0  # its tokens when all callers were last counted
    counted_now: float = 0.0  # those of them that go before newcomers

    def tokens_before(self, entry: Queued[W]) -> float:
        """Return the tokens of its own entries that go before this new one."""
        place = bisect_right(self.entries, entry)
        if len(self.entries) - place > _COUNTED:
            return self.tokens * place / len(self.entries)
        return self.tokens - sum(each.tokens for each in self.entries[place:])

    def ahead_of(self, start: float) -> float:
        """Return the tokens that go before what begins at this virtual time, which is not before its own start.

        For a caller who presses, that is all of its share, since what it sends until then has the earlier start.
        """
        share = max(self.entries[0].tokens, (start - self.start) * self.weight)
        return share if self.presses else min(self.tokens, share)


# (virtual start, the caller's number, the place of one of its entries, the caller)
_Turn: TypeAlias = "tuple[float, int, int, _Caller[W]]"


class FairQueue(Generic[W]):
    """Order waiting work by start-time fair queuing (Goyal, Vin, Cheng 1996), in a virtual time of tokens per weight.

    The earliest start is the first in the order. A caller who begins to wait starts now, or where the work that it had
    before ends. Virtual time advances as if all who wait were served at once, and is never before the earliest start
    (Bennett and Zhang 1996: WF2Q+). So a caller that was idle has no credit, and an endless series of new callers does
    not keep out one that has had much. Iterating changes nothing. Not thread-safe; its owner holds a lock.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._entries = 0
        self._callers: dict[str, _Caller[W]] = {}
        self._order: list[_Turn[W]] = []  # one turn a caller, by the start of its first entry
        self._by_key: dict[tuple[Any, int], Queued[W]] = {}
        self._numbers = itertools.count()
        self._now = 0.0  # virtual time
        self._ends: dict[str, float] = {}  # of callers with no work waiting, where that is later than now
        self._weights = 0.0  # of all callers
        self._before_newcomers = 0.0
        self._fluid: Fluid | None = None  # all that waits, as it was when something last left
        self._counted = 0.0  # the tokens before newcomers at that time

    def __len__(self) -> int:
        return self._entries

    def __iter__(self) -> Iterator[Queued[W]]:
        """Yield all entries, in the order in which they would be taken one by one."""
        met = 0
        later: list[_Turn[W]] = []  # the turns after those that were yielded
        while met < len(self._order) or later:
            if later and (met == len(self._order) or later[0] < self._order[met]):
                start, number, place, caller = heappop(later)
            else:
                (start, number, place, caller), met = self._order[met], met + 1
            yield (entry := caller.entries[place])
            if place + 1 < len(caller.entries):
                heappush(later, (start + entry.tokens / caller.weight, number, place + 1, caller))

    @property
    def before_newcomers(self) -> float:
        """Return the tokens that go before work of a caller of whom nothing waits or was lately taken."""
        return self._before_newcomers

    def behind(self, new: Queued[W], most: int) -> Iterator[tuple[Queued[W], float]]:
        """Yield those waiting entries of the new one's caller that have a deadline and would go behind it.

        With each comes the number of tokens that go before it now. At most `most` entries are looked at.
        """
        caller = self._callers.get(new.work.caller)
        if caller is None:
            return
        own, place = caller.tokens_before(new), bisect_right(caller.entries, new)
        for each in caller.entries[place : place + most]:
            if each.work.deadline < math.inf:
                start = caller.start + own / caller.weight
                yield each, own + self._others_before(caller, start)
            own += each.tokens

    def tokens_before(self, entry: Queued[W]) -> float:
        """Return how many tokens would go before this new entry: exactly for its caller, as of a fluid for others."""
        name = entry.work.caller
        caller = self._callers.get(name)
        if caller is None:
            start = max(self._now, self._ends.get(name, 0.0))
            return self._before_newcomers if start == self._now else self._others_before(None, start)
        own = caller.tokens_before(entry)
        return own + self._others_before(caller, caller.start + own / caller.weight)

    def _others_before(self, own: _Caller[W] | None, start: float) -> float:
        """Return the tokens of others before what this caller has at this start.

        All callers are counted once for as long as nothing leaves, and then by what newcomers add, so that even
        thousands of refusals cost little.
        """
        if self._fluid is None:
            self._fluid, self._counted = self._count(), self._before_newcomers
        before = self._fluid.served(start) + self._before_newcomers - self._counted
        if own is not None:
            before -= min(own.counted, max(own.entries[0].tokens, (start - own.start) * own.weight))
            before -= self._ahead_now(own) - own.counted_now
        return max(0.0, before)

    def _count(self) -> Fluid:
        callers = [turn[3] for turn in self._order]
        for each in callers:
            each.counted = math.inf if each.presses else each.tokens
            each.counted_now = self._ahead_now(each)
        return Fluid(
            [each.start for each in callers],
            [each.entries[0].tokens for each in callers],
            [each.counted for each in callers],
            [each.weight for each in callers],
        )

    def _until(self, place: tuple[float, float]) -> Iterator[_Turn[W]]:
        """Yield the callers whose first entry begins before this start and number."""
        return itertools.takewhile(lambda turn: turn[:2] <= place, self._order)

    def add(self, new: Queued[W]) -> None:
        """Have it wait, at its caller's newest weight."""
        name, weight = new.work.caller, new.work.weight
        caller = self._callers.get(name)
        if caller is None:
            start = max(self._now, self._ends.pop(name, 0.0))
            caller = self._callers[name] = _Caller(next(self._numbers), weight, start)
            self._order_in(caller)
            self._weights += weight
        else:
            self._before_newcomers -= self._ahead_now(caller)
            self._weights += weight - caller.weight
            caller.weight = weight
        insort(caller.entries, new)
        caller.tokens += new.tokens
        self.tokens += new.tokens
        self._entries += 1
        self._by_key[new.source, new.work.id] = new
        self._before_newcomers += self._ahead_now(caller)

    def refused(self, new: Queued[W]) -> None:
        """Note that this entry was not added, since it would have been late."""
        caller = self._callers.get(new.work.caller)
        if caller is not None:
            caller.presses = True

    def cancel(self, source: object, work_id: int) -> bool:
        """Drop one entry, and return whether it was still waiting."""
        gone = self._by_key.get((source, work_id))
        if gone is not None:
            self.remove((gone,))
        return gone is not None

    def cancel_all(self, source: object) -> None:
        """Drop all that came from one connection."""
        self.remove([each for each in self._by_key.values() if each.source is source])

    def remove(self, entries: Iterable[Queued[W]]) -> None:
        """Take these entries out, as if they had never been there."""
        if not (removed := _by_caller(entries)):
            return
        for name, gone in removed.items():
            self._before_newcomers -= self._ahead_now(self._callers[name])
            self._take_out(name, gone, charged=0)
            if name in self._callers:
                self._before_newcomers += self._ahead_now(self._callers[name])
        self._fluid = None
        if not self._order or self._order[0][0] > self._now:
            self._settle()

    def expired(self, now: float) -> list[Queued[W]]:
        """Return the first entries of each caller, as far as their deadlines have passed."""
        return [
            each
            for turn in self._order
            if turn[3].entries[0].work.deadline <= now
            for each in itertools.takewhile(lambda each: each.work.deadline <= now, turn[3].entries)
        ]

    def serve(self, entries: Iterable[Queued[W]]) -> None:
        """Take these entries out to be computed, and count them as their callers' share."""
        if not (served := _by_caller(entries)):
            return
        tokens = {name: sum(each.tokens for each in gone) for name, gone in served.items()}
        self._now += sum(tokens.values()) / self._weights
        for name, gone in served.items():
            self._take_out(name, gone, charged=tokens[name])
        self._settle()

    def _take_out(self, name: str, gone: list[Queued[W]], charged: int) -> None:
        caller = self._callers[name]
        self._order_out(caller)
        caller.start += charged / caller.weight
        _delete(caller.entries, gone)
        tokens = sum(each.tokens for each in gone)
        caller.tokens -= tokens
        self.tokens -= tokens
        self._entries -= len(gone)
        for each in gone:
            self._by_key.pop((each.source, each.work.id), None)
        if caller.entries:
            self._order_in(caller)
        else:
            del self._callers[name]
            self._weights -= caller.weight
            if caller.start > self._now:
                self._ends[name] = caller.start

    def _settle(self) -> None:
        """Update virtual time, the callers remembered, and the tokens before newcomers, after entries have left."""
        if not self._callers:
            self._now = self._weights = 0.0
            self._ends.clear()
        else:
            self._now = max(self._now, self._order[0][0])
        if len(self._ends) > 2 * _REMEMBERED:
            late = ((name, end) for name, end in self._ends.items() if end > self._now)
            self._ends = dict(nlargest(_REMEMBERED, late, key=lambda each: each[1]))
        self._fluid = None
        self._before_newcomers = sum(turn[3].ahead_of(self._now) for turn in self._until((self._now, math.inf)))

    def _ahead_now(self, caller: _Caller[W]) -> float:
        return caller.ahead_of(self._now) if caller.start <= self._now else 0.0

    def _order_in(self, caller: _Caller[W]) -> None:
        insort(self._order, (caller.start, caller.number, 0, caller))

    def _order_out(self, caller: _Caller[W]) -> None:
        del self._order[bisect_left(self._order, (caller.start, caller.number, 0, caller))]


def _by_caller(entries: Iterable[Queued[W]]) -> dict[str, list[Queued[W]]]:
    found = defaultdict[str, list[Queued[W]]](list)
    for each in entries:
        found[each.work.caller].append(each)
    return found


def _delete(entries: list[Queued[W]], gone: list[Queued[W]]) -> None:
    """Take some entries out of a sorted list; mostly they are the first."""
    if all(one is other for one, other in zip(gone, entries, strict=False)):
        del entries[: len(gone)]
        return
    for each in gone:
        place = bisect_left(entries, each)
        while entries[place] is not each:
            place += 1
        del entries[place]
