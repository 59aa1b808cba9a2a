"""List the routes of all tasks."""

from __future__ import annotations

from collections.abc import Sequence

from bertstream.server.core.models import Models
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.tasks import (
    answer,
    choose,
    classify,
    entities,
    fill_mask,
    next_sentence,
    score,
    zero_shot,
)

ROUTES = tuple(
    module.ROUTE for module in (fill_mask, entities, answer, classify, zero_shot, choose, next_sentence, score)
)


def endpoints(models: Models) -> Sequence[Endpoint]:
    """Return the endpoints of all tasks."""
    return [route.endpoint(models) for route in ROUTES]
