"""What services share when they have texts computed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.v1 import types_pb2


def raise_first(outcomes: Sequence[Outcome]) -> None:
    """For calls that fail as a whole: raises the error of the first outcome that has one."""
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error


def refuse_if_late(error: RequestError) -> None:
    """Raises what is a stream's error, not an item's: its deadline, and the version of the model that it began with."""
    if error.reason in ("DEADLINE_EXCEEDED", "MODEL_REPLACED"):
        raise error


def timings(tokenize_seconds: float, since: float, outcomes: Sequence[Outcome]) -> types_pb2.Timings:
    """From `since` (time.monotonic()) until now; of several outcomes the slowest counts."""
    total = time.monotonic() - since
    if not outcomes:
        return wire.timings(tokenize_seconds, total)
    queue = max(outcome.queue_seconds for outcome in outcomes)
    return wire.timings(tokenize_seconds, total, queue, max(outcome.compute_seconds for outcome in outcomes))
