"""Say what a call allows its work, and which errors of single texts fail a whole call or stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bertstream.server.core.callers import Caller
from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.errors import RequestError, too_large
from bertstream.server.settings import Limits


class Terms(Protocol):
    """Say for whom a call's work is done, and until when."""

    @property
    def caller(self) -> Caller: ...

    @property
    def deadline(self) -> float:
        """The time, of time.monotonic()."""

    def check_deadline(self) -> None:
        """Raise DEADLINE_EXCEEDED when the deadline is over."""


def check_answer_size(size: int, limits: Limits, path: str, advice: str) -> None:
    """Raise REQUEST_TOO_LARGE for a unary answer of at least so many bytes where the limit is less.

    advice: what else to do.
    """
    if size > (limit := limits.max_response_bytes):
        raise too_large(path, f"the answer would have {size} bytes or more, and the limit is {limit}: {advice}")


def before_failure(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], RequestError | None]:
    """Return the outcomes before the first that has an error, and the error, which a call or stream ends with."""
    for number, outcome in enumerate(outcomes):
        if outcome.error is not None:
            return list(outcomes[:number]), outcome.error
    return list(outcomes), None


def refuse_if_late(error: RequestError) -> None:
    """Raise an error that ends a stream, not one item: a passed deadline, a replaced model, a key that is gone."""
    if error.reason in ("DEADLINE_EXCEEDED", "MODEL_REPLACED", "KEY_UNKNOWN"):
        raise error
