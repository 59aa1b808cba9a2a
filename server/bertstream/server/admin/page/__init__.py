"""The page that a browser shows of a server: live numbers and a playground. It has no build step.

The files are read once, and served as they are. What they may do is bounded by the Content-Security-Policy: scripts,
styles and calls of this server alone, and no text is ever taken for HTML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "require-trusted-types-for 'script'",  # browsers then refuse text as HTML by themselves
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # kept, but asked for anew each time, so that an upgrade shows at once
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page."""

    path: str  # below the page's folder
    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:20]}"'


def page_files() -> list[PageFile]:
    """Return all files of the page."""
    return list(_files_in(files(__name__), ""))


def _files_in(folder: Traversable, prefix: str) -> Iterator[PageFile]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        ending = entry.name[entry.name.rfind(".") :]
        if entry.is_dir():
            yield from _files_in(entry, f"{prefix}{entry.name}/")
        elif ending in TYPES:
            yield PageFile(prefix + entry.name, entry.read_bytes(), TYPES[ending])


def page_routes() -> list[Route]:
    """Return a route for each file of the page: index.html is at `/`, all others are below `/static/`."""
    return [Route("/" if file.path == "index.html" else f"/static/{file.path}", _serve(file)) for file in page_files()]


def _serve(file: PageFile) -> Callable[[Request], Awaitable[Response]]:
    etag = file.etag

    async def serve(request: Request) -> Response:
        headers = {**HEADERS, "etag": etag}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)

    return serve
