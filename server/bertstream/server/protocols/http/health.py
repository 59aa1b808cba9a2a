"""Health, as text-embeddings-inference and balancers ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bertstream.server.protocols.http.answers import HttpAnswer, answer_of
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.forms import openai_form
from bertstream.server.protocols.interceptors.links import Kind

PATH = "/health"


def endpoints(serves: Callable[[], bool]) -> Sequence[Endpoint]:
    """Return the endpoint; `serves` tells whether all models have workers, and the server does not drain."""

    async def health(_: None, call: HttpCall) -> HttpAnswer:
        if serves():
            return answer_of({"status": "ok"})
        return answer_of({"error": "unhealthy", "error_type": "unhealthy"}, 503)

    about = "Tell whether calls are answered: 200, or 503 where a model has no workers or the server drains."
    return (Endpoint("GET", PATH, health, openai_form, about, kind=Kind.STANDARD, answer={"status": "ok"}),)
