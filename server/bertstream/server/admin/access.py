"""Who may use the admin port: with keys, callers whose key has the role admin; without, nobody's web page but ours.

A browser sends requests of any page to any address. So where no key tells callers apart, a request must name the server
as it is known here: a foreign name in `Host` is how a page reaches servers behind the browser (DNS rebinding), and a
foreign `Origin` is a page of somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bertstream.server.admin.statuses import refusal
from bertstream.server.core.errors import RequestError, host_not_known, origin_not_known
from bertstream.server.core.keys import Keys
from bertstream.server.keys.following import FollowedKeys
from bertstream.server.protocols.http.call import check_headers
from bertstream.server.protocols.http.statuses import status_of
from bertstream.server.settings import AdminSettings

_OPEN = ("/", "/healthz", "/readyz")  # need no key, as they show nothing of the server's use
STATIC = "/static/"  # nor do the files of the pages
Check = Callable[[str, Headers], None]  # of a path and headers; raises RequestError


class Access:
    """Refuses requests that may not be made, before any route sees them."""

    def __init__(self, app: ASGIApp, check: Check, max_header_bytes: int) -> None:
        self._app = app
        self._check = check
        self._max_header_bytes = max_header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                check_headers(scope["headers"], self._max_header_bytes)
                self._check(scope["path"], Headers(scope=scope))
            except RequestError as error:
                answer = refusal(error)
                answer.status_code = status_of(error)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def check_of(settings: AdminSettings) -> Check:
    """Return the check of all requests."""
    if settings.keys is None:
        return _check_of_names((settings.host, "localhost"))
    followed = settings.keys
    return _check_of_keys(FollowedKeys(Path(followed.path), certificates=followed.certificates, first=followed.keys))


def _check_of_keys(followed: FollowedKeys) -> Check:
    keys = Keys(followed.current)

    def check(path: str, headers: Headers) -> None:
        if path in _OPEN or path.startswith(STATIC):
            return
        if followed.follow():
            keys.replace(followed.current)
        keys.identify(headers.get("authorization")).check_role("admin")

    return check


def _check_of_names(names: Iterable[str]) -> Check:
    known = frozenset(name.lower() for name in names)

    def check(path: str, headers: Headers) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not _is_known(host, known):
            raise host_not_known(host)
        if origin is not None and _netloc(origin) != host.lower():
            raise origin_not_known()

    return check


def _netloc(origin: str) -> str | None:
    """Return the host and port of an origin, or None where that cannot be told."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _is_known(host: str, known: frozenset[str]) -> bool:
    """Tell whether a `Host` is an address, or one of these names; no name leads to an address by DNS."""
    name = ""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        ip_address(name)
    except ValueError:
        return name in known
    return True
