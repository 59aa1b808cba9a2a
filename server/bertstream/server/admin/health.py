"""Health over HTTP: whether to restart the server, and whether to send it calls.

For whoever cannot ask gRPC's own health service.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bertstream.server.admin.gathering import Gatherings
from bertstream.server.core.errors import RequestError

SILENT_SECONDS = 30.0  # without an answer, after which the supervisor counts as hanging


def health_routes(gatherings: Gatherings) -> list[Route]:
    """Return the routes of liveness and readiness."""

    async def live(request: Request) -> Response:
        silent = gatherings.silent_seconds
        lives = silent < SILENT_SECONDS
        return JSONResponse({"alive": lives, "silent_seconds": round(silent, 1)}, 200 if lives else 503)

    async def ready(request: Request) -> Response:
        try:
            gathered = await gatherings.fresh()
        except RequestError as error:
            return JSONResponse({"ready": False, "reason": error.message}, 503)
        shown = {"ready": gathered.ready, "draining": gathered.draining}
        models = {each.name: each.state for each in gathered.models}
        return JSONResponse({**shown, "models": models}, 200 if gathered.ready else 503)

    return [Route("/healthz", live), Route("/readyz", ready)]
