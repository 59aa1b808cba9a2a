"""Decides which errors of single texts fail a whole call or stream."""

from __future__ import annotations

from collections.abc import Sequence

from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.errors import RequestError


def raise_first(outcomes: Sequence[Outcome]) -> None:
    """Raise the error of the first outcome that has one, for calls that fail as a whole."""
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error


def refuse_if_late(error: RequestError) -> None:
    """Raise an error that ends a stream, not one item: a passed deadline, a replaced model, a key that is gone."""
    if error.reason in ("DEADLINE_EXCEEDED", "MODEL_REPLACED", "KEY_UNKNOWN"):
        raise error
