"""The web application of the admin port: one list of routes, behind one check of who may use them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from bertstream.server.admin.access import Access, check_of
from bertstream.server.admin.channels import FrontendChannels
from bertstream.server.admin.gathering import Gatherings
from bertstream.server.admin.health import health_routes
from bertstream.server.admin.live import live_routes
from bertstream.server.admin.page import page_routes
from bertstream.server.admin.prometheus import metrics_routes
from bertstream.server.admin.rpc import rpc_routes
from bertstream.server.admin.statuses import refusal
from bertstream.server.core.errors import RequestError
from bertstream.server.settings import AdminSettings


def routes(settings: AdminSettings, gatherings: Gatherings) -> list[BaseRoute]:
    """Return all routes; each file of this package has a function that returns its own."""
    return [
        *health_routes(gatherings),
        *metrics_routes(gatherings),
        *live_routes(gatherings),
        *page_routes(),
        *rpc_routes(FrontendChannels([f"unix:{path}" for path in settings.frontend_sockets])),
    ]


def application(settings: AdminSettings, gatherings: Gatherings) -> Starlette:
    """Return the application."""
    access = Middleware(Access, check=check_of(settings), max_header_bytes=settings.max_header_bytes)
    return Starlette(
        routes=routes(settings, gatherings), middleware=[access], exception_handlers={RequestError: _refuse}
    )


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return refusal(error)
