"""The OpenAPI document of all endpoints (https://spec.openapis.org/oas/v3.1.0), and a page that shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from msgspec import json

from bertstream.server.core.errors import deadline_exceeded
from bertstream.server.protocols.http.answers import EVENTS, HTML, JSON, HttpAnswer, answer_of
from bertstream.server.protocols.http.call import TIMEOUT_HEADER, HttpCall
from bertstream.server.protocols.http.endpoints import Endpoint, Handle
from bertstream.server.protocols.http.events import ERROR, event
from bertstream.server.protocols.http.forms import openai_form, own_error
from bertstream.server.protocols.interceptors.links import Kind

_FAILED = (ERROR, own_error(deadline_exceeded()))  # how any stream of events may end instead
DOCUMENT, PAGE = "/openapi.json", "/docs"
_FILES = {"page.js": "text/javascript; charset=utf-8", "page.css": "text/css; charset=utf-8"}
# Nothing from other servers, and no text is ever taken for HTML.
_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def endpoints(described: Sequence[Endpoint], version: str) -> Sequence[Endpoint]:
    """Return the endpoints of the document and its page; they need no key, as they tell nothing of the models."""

    @cache
    def written() -> HttpAnswer:
        return answer_of(document([*described, *own], version))

    async def show(_: None, call: HttpCall) -> HttpAnswer:
        return written()

    def get(path: str, handle: Handle, about: str) -> Endpoint:
        return Endpoint("GET", path, handle, openai_form, about, kind=Kind.STANDARD)

    own = (
        get(DOCUMENT, show, "Give this document."),
        get(PAGE, _file("index.html", HTML), "Show this document to people."),
        *(get(f"{PAGE}/{name}", _file(name, kind), "Give a file of the page.") for name, kind in _FILES.items()),
    )
    return own


def document(described: Sequence[Endpoint], version: str) -> Mapping[str, Any]:
    """Return the document. Raises where two bodies have types of one name."""
    types = sorted({each.request for each in described if each.request is not None}, key=lambda kind: kind.__name__)
    _, schemas = json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for each in described:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "bertstream", "version": version, "description": "Encoders, by the APIs of several servers."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}, {}],
    }


def _operation(endpoint: Endpoint) -> Mapping[str, Any]:
    ended: dict[str, Any] = {"description": "The answer.", "content": {JSON: {}}}
    if endpoint.answer is not None:
        ended["content"] = {JSON: {"example": endpoint.answer}}
    if endpoint.events:
        example = b"".join(event(kind, data) for kind, data in (*endpoint.events, _FAILED)).decode()
        ended["content"] |= {EVENTS: {"schema": {"type": "string"}, "example": example}}
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", endpoint.name.lower()).strip("_"),
        "summary": endpoint.about,
        "parameters": [*_places(endpoint), *_HEADER_PARAMETERS],
        "responses": {"200": ended, "default": {"description": "What is wrong.", "content": {JSON: {}}}},
    }
    if endpoint.request is not None:
        schema = {"$ref": f"#/components/schemas/{endpoint.request.__name__}"}
        body = {JSON: {"schema": schema, "example": endpoint.example}}
        operation["requestBody"] = {"required": True, "content": body}
    if endpoint.kind is Kind.STANDARD:
        operation["security"] = [{}]
    return operation


def _header(name: str, about: str, kind: str = "string") -> Mapping[str, Any]:
    return {"name": name, "in": "header", "description": about, "schema": {"type": kind}}


_HEADER_PARAMETERS = (
    _header(TIMEOUT_HEADER, "Seconds that the call may take.", "number"),
    _header("x-request-id", "What the log and errors call the request; made up where it is missing."),
)


def _places(endpoint: Endpoint) -> Sequence[Mapping[str, Any]]:
    names = re.findall(r"{(\w+)}", endpoint.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _file(name: str, media_type: str) -> Handle:
    answer = HttpAnswer(((files(__package__) / "page" / name).read_bytes(),), media_type=media_type, headers=_HEADERS)

    async def give(_: None, call: HttpCall) -> HttpAnswer:
        return answer

    return give
