"""Which server, and which of its channels, takes the next call: a decision without any I/O.

A server that is lost or drains gets no calls while there is another; its health is asked now and then, and once it says
that it takes calls, it gets them again. Where no server takes calls, all are tried all the same. One that has no room
comes after the others for as long as it has asked for: it refuses at once, and with the fewest calls under way it would
be asked first each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

from bertstream.client._calls.backoff import backoff_seconds
from bertstream.client._chance import CHANCE
from bertstream.client._errors import Overloaded, RpcError, Unavailable
from bertstream.client._transport.handshakes import CLOSED, FAILED, HEALTH_CLOSED

DRAINING, NO_SERVER = "DRAINING", "NO_SERVER"  # reasons
ASK_SECONDS, MOST_ASK_SECONDS = 0.2, 2.0  # between two questions for the health of a server
ANSWER_SECONDS = 5.0  # that such a question may take
FULL_SECONDS, MOST_FULL_SECONDS = 0.05, 1.0  # for which a server has no room: where it did not say, and at most
# Reasons of errors that are the server's and not the call's: gRPC's own errors have none.
_SERVERS = ("", DRAINING, FAILED, CLOSED, HEALTH_CLOSED)


class Place(NamedTuple):
    """A channel of a server, both by their index."""

    server: int
    channel: int


@dataclass(slots=True)
class _Server:
    address: str
    loads: list[int]  # calls under way, by channel
    turn: int  # grows with each call; of equal servers the one with the lowest is next
    failure: RpcError | None = None  # why it gets no calls
    unanswered: int = 0  # questions for its health since then
    ask_at: float = 0.0
    is_asked: bool = False
    full_until: float = 0.0


class Balance:
    """Chooses the server with the fewest calls under way, and of its channels the one with the fewest."""

    def __init__(
        self,
        servers: Sequence[str],
        channels: int,
        first: int = 0,
        clock: Callable[[], float] = monotonic,
        jitter: Callable[[], float] = CHANCE.random,
    ) -> None:
        count = len(servers)
        self._servers = [_Server(each, [0] * channels, (at - first) % count) for at, each in enumerate(servers)]
        self._turns, self._clock, self._jitter = count, clock, jitter
        self._lock = threading.Lock()

    def acquire(self, refused: Collection[int] = ()) -> Place:
        """Return the place for a new call; the servers that have `refused` it come last."""
        with self._lock:
            index = 0 if len(self._servers) == 1 else min(range(len(self._servers)), key=self._order(refused))
            return self._place_at(index)

    def acquire_at(self, index: int) -> Place:
        """Return the place for a new call to this server."""
        with self._lock:
            return self._place_at(index)

    def best(self, indexes: Iterable[int], at_any_cost: bool) -> int | None:
        """Return the server that should take the next call of these, or None if none of them takes calls or has room.

        at_any_cost: return the best one nevertheless.
        """
        with self._lock:
            order = self._order(())
            best = min(indexes, key=order)
            takes_none = order(best)[1:3] != (False, False)
        return None if takes_none and not at_any_cost else best

    def release(self, place: Place) -> None:
        """Note that a call has ended."""
        with self._lock:
            self._servers[place.server].loads[place.channel] -= 1

    def failed(self, index: int, error: RpcError) -> RpcError:
        """Note that a call to this server has failed, and return the error that its caller gets.

        If that is why the last of several servers takes no calls, the error names all of them.
        """
        if len(self._servers) == 1:
            return error
        if isinstance(error, Overloaded):
            full = min(error.retry_after or FULL_SECONDS, MOST_FULL_SECONDS)
            with self._lock:
                self._servers[index].full_until = self._clock() + full
        if not isinstance(error, Unavailable) or error.reason not in _SERVERS:
            return error
        with self._lock:
            server = self._servers[index]
            if server.failure is None:
                server.unanswered, server.ask_at = 0, self._clock()
            server.failure = error
            failures = [(each.address, each.failure) for each in self._servers if each.failure]
        if len(failures) == len(self._servers):
            return _no_server(failures)
        error.retry_after = None  # there are others
        return error

    def to_ask(self) -> list[int]:
        """Return the servers whose health is to be asked now; tell `answered` how that went."""
        if len(self._servers) == 1:
            return []
        with self._lock:
            now = self._clock()
            due = [
                index
                for index, each in enumerate(self._servers)
                if each.failure and not each.is_asked and each.ask_at <= now
            ]
            for index in due:
                self._servers[index].is_asked = True
            return due

    def answered(self, index: int, is_open: bool) -> None:
        """Note whether a server that was asked takes calls."""
        with self._lock:
            server = self._servers[index]
            server.is_asked = False
            if is_open:
                server.failure = None
                return
            delay = backoff_seconds(server.unanswered, ASK_SECONDS, MOST_ASK_SECONDS, self._jitter)
            server.unanswered, server.ask_at = min(server.unanswered + 1, 16), self._clock() + delay

    def _place_at(self, index: int) -> Place:
        server = self._servers[index]
        channel = min(range(len(server.loads)), key=server.loads.__getitem__)
        server.loads[channel] += 1
        server.turn, self._turns = self._turns, self._turns + 1
        return Place(index, channel)

    def _order(self, refused: Collection[int]) -> Callable[[int], tuple[bool, bool, bool, int, int]]:
        now = self._clock()

        def order(index: int) -> tuple[bool, bool, bool, int, int]:
            server = self._servers[index]
            is_full = now < server.full_until
            return index in refused, server.failure is not None, is_full, sum(server.loads), server.turn

        return order


def _no_server(failures: Sequence[tuple[str, RpcError]]) -> Unavailable:
    """Return the error that says why none of several servers takes calls."""
    reasons = {error.reason for _, error in failures}
    waits = [error.retry_after for _, error in failures if error.retry_after is not None]
    return Unavailable(
        f"none of {len(failures)} servers takes calls: "
        + "; ".join(f"{address}: {error.message or error.status}" for address, error in failures),
        reason=NO_SERVER if len(reasons) > 1 or "" in reasons else reasons.pop(),
        retry_after=min(waits, default=None),
    )
