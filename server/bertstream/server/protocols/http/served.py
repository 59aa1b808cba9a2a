"""List the endpoints of all APIs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bertstream.server.core.models import Models
from bertstream.server.protocols.http import generation, health, layers, multi_vector, openai, openapi, rerank, tei
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.tasks import routes


@dataclass(frozen=True, slots=True)
class Serving:
    """What endpoints need of the server."""

    models: Models
    version: str
    tokenizer_threads: int
    serves: Callable[[], bool]  # as health tells it


def endpoints(serving: Serving) -> Sequence[Endpoint]:
    """Return the endpoints of all APIs."""
    models = serving.models
    described = (
        *health.endpoints(serving.serves),
        *openai.endpoints(models),
        *rerank.endpoints(models),
        *multi_vector.endpoints(models),
        *generation.endpoints(models),
        *layers.endpoints(models),
        *routes.endpoints(models),
        *tei.endpoints(models, serving.version, serving.tokenizer_threads),
    )
    return (*described, *openapi.endpoints(described, serving.version))
