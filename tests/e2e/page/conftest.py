"""The page in front of a server with every head, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette

from bertstream.client import Client
from bertstream.server.admin import page, rpc
from bertstream.server.admin.channels import FrontendChannels
from tests.support.browser import CHROMIUM, SECONDS, WHY_NOT, View, chromium, viewing
from tests.support.live_numbers import MadeUpLive
from tests.support.web import serving


@dataclass
class Site:
    """Hold where the page is, and the live numbers behind it."""

    url: str
    live: MadeUpLive


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(WHY_NOT)
    expect.set_options(timeout=SECONDS * 1000)
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(documented: str) -> Iterator[Site]:
    live = MadeUpLive()
    routes = [*page.page_routes(), *rpc.rpc_routes(FrontendChannels([documented])), live.route()]
    with serving(Starlette(routes=routes)) as url:
        yield Site(url, live)


@pytest.fixture
def served(documented: str) -> Iterator[Client]:
    """Yield a client of the server behind the page."""
    with Client(documented) as client:
        yield client


Open = Callable[..., View]


@pytest.fixture
def look(browser: Browser, site: Site) -> Iterator[Open]:
    """Return a function that opens the page at a place; nothing may be wrong there when the test ends."""
    with ExitStack() as stack:
        views: list[View] = []

        def look(place: str = "", **options: Any) -> View:
            views.append(stack.enter_context(viewing(browser, site.url, **options)))
            views[-1].go(place)
            return views[-1]

        yield look
        assert [trouble for view in views for trouble in view.troubles] == []
        assert {request for view in views for request in view.requests if not request.startswith(site.url)} == set()
