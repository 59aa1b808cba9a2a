"""Estimate when new work would be answered, and whether it is refused for that, by pure functions of what waits."""

from __future__ import annotations

from dataclasses import dataclass

from bertstream.workers.contract import Failure, Generate, Work
from bertstream.workers.serving.pace import Pace
from bertstream.workers.serving.scheduler import MARGIN_SECONDS, TURN_SECONDS, BatchBounds, Entry, WaitingWork, is_bulk

_LOOK_BEHIND = 256  # entries of the same caller that new work would make wait longer
LEAST_RETRY_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Outlook:
    """Estimate, from what a worker has to do and from its pace, when it will have done it."""

    now: float
    waiting: WaitingWork
    pace: Pace
    bounds: BatchBounds  # of its batches
    left_seconds: float = 0.0  # until the current computation is done
    prepared_tokens: int = 0  # of the interactive batch to be computed after that
    prepared_bulk_tokens: int = 0  # of a batch of bulk work, which interactive work overtakes
    bulk_turn_seconds: float = 0.0  # until bulk work has a turn, if any waits

    @property
    def wait_seconds(self) -> float:
        """Return how long small interactive work of a caller with nothing else waiting would wait; 0 if all is idle."""
        return self._interactive(self.waiting.interactive.before_newcomers, 1)[0]

    def times(self, each: Entry, before: float) -> tuple[float, float]:
        """Return in how many seconds its batch begins, and is answered, behind `before` tokens of its priority."""
        return (self._bulk if is_bulk(each) else self._interactive)(before, each.tokens)

    def _interactive(self, before: float, tokens: int) -> tuple[float, float]:
        """Count the full batches that go first, and the turns of bulk work between them."""
        begins, computed = self._batches(before + self.prepared_tokens, tokens, self.bounds.interactive_tokens)
        begins += self.left_seconds
        bulk = self.waiting.bulk.tokens + self.prepared_bulk_tokens
        if bulk and begins > self.bulk_turn_seconds:
            turns = 1 + (begins - self.bulk_turn_seconds) // TURN_SECONDS
            begins += turns * self.pace.seconds(min(bulk, self.bounds.tokens))
        return begins, begins + computed

    def _bulk(self, before: float, tokens: int) -> tuple[float, float]:
        """Count bulk work that goes first, and all interactive work, or turns with that where it is sooner."""
        begins, computed = self._batches(before + self.prepared_bulk_tokens, tokens, self.bounds.tokens)
        waiting = self.waiting.interactive.tokens + self.prepared_tokens
        interactive = self._batches(waiting, 0, self.bounds.interactive_tokens)
        turns = 1 + (before + self.prepared_bulk_tokens) // self.bounds.tokens
        begins += self.left_seconds + min(sum(interactive), turns * TURN_SECONDS)
        return begins, begins + computed

    def _batches(self, before: float, tokens: int, full_tokens: int) -> tuple[float, float]:
        """Return the seconds of the batches that come first, and of its own, which is full unless it is next."""
        full = max(0, -(-int(before + min(tokens, full_tokens)) // full_tokens) - 1)
        last = max(full_tokens, tokens) if full else before + tokens
        return full * self.pace.seconds(full_tokens), self.pace.careful_seconds(last) if last else 0.0


def overloaded(work: Work | Generate, retry_seconds: float, wait_seconds: float) -> Failure:
    """Return the failure for work that would be late."""
    message = "it would not be answered in time"
    return Failure(work.id, "overloaded", message, max(retry_seconds, LEAST_RETRY_SECONDS), wait_seconds)


def refused_for(outlook: Outlook, new: Entry, queue_seconds: float) -> float:
    """Return in how many seconds this new work would fit, if it is refused now; 0 if it may wait.

    It is refused where it would be late, or would make other work of its caller late. Interactive work is also refused
    where its batch would begin only after `queue_seconds`. Other callers' work gives way to it: that is their share.
    """
    if new.promised or not outlook.pace.measured:
        return 0.0
    begins, answered = outlook.times(new, outlook.waiting.of(new).tokens_before(new))
    if not (begins or len(outlook.waiting)):
        return 0.0  # all is idle: whatever the pace says, the work is computed, and the pace measured anew
    over = answered + MARGIN_SECONDS - (new.work.deadline - outlook.now)
    if not is_bulk(new):
        over = max(over, begins - queue_seconds)
    over = max(over, _made_late(outlook, new))
    return max(0.0, over)


def _made_late(outlook: Outlook, new: Entry) -> float:
    """Return in how many seconds other work of its caller is done that this would make late; 0 if there is none."""
    for each, before in outlook.waiting.of(new).behind(new, _LOOK_BEHIND):
        left = each.work.deadline - outlook.now - MARGIN_SECONDS
        answered = outlook.times(each, before)[1]
        if answered <= left < outlook.times(each, before + new.tokens)[1]:
            return left
    return 0.0
