"""The application of the HTTP port: each request is a call, and passes the links that all calls pass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from bertstream.server.core.errors import deadline_exceeded, draining, method_not_found
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.http.answers import HttpAnswer
from bertstream.server.protocols.http.bodies import parsed
from bertstream.server.protocols.http.call import HttpCall, Receive, Scope, Send, seconds_of
from bertstream.server.protocols.http.endpoints import Endpoint, Table
from bertstream.server.protocols.http.forms import openai_form
from bertstream.server.protocols.interceptors.links import EVERY, Kind, Links, Proceed, joined_by_kind
from bertstream.server.settings import ConnectionLimits, Limits

_LAST_SECONDS = 1.0  # for telling a caller that its call is cut off, as the server stops


class HttpApp:
    """An application of ASGI. Starlette's routes and middlewares would stand where the chain and the table do."""

    def __init__(self, endpoints: Sequence[Endpoint], links: Links) -> None:
        self._table = Table(endpoints)
        self._through = joined_by_kind(links)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        by_method, place = self._table.at(scope["path"])
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        endpoint = by_method.get(method) or _missing(scope["method"], scope["path"], tuple(by_method))
        call = HttpCall(endpoint.method, endpoint.path, endpoint.form, scope, receive, send, place)
        try:
            await self._through[endpoint.kind](call, partial(_handle, endpoint, call))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not (call.left or call.can_fail):
                raise
            task.uncancel()  # the task has nothing more to do
            if not call.left:  # the server stops
                async with asyncio.timeout(_LAST_SECONDS):
                    await call.fail(draining())


async def _handle(endpoint: Endpoint, call: HttpCall) -> HttpAnswer | None:
    request = endpoint.request
    return await endpoint.handle(None if request is None else parsed(call.body, request), call)


def links_of_http(limits: Limits, connections: ConnectionLimits) -> Links:
    """Return the links for callers that are known: they keep bounds, have the body read, and see the caller leave.

    A body is read before the call takes a place at the gate, so that slow ones do not take the places.
    """

    async def read_body(call: Call, proceed: Proceed) -> Any:
        assert isinstance(call, HttpCall)
        call.check_headers(connections.max_header_bytes)
        await call.read_body(limits)
        return await proceed()

    return ((keep_deadline, EVERY), (read_body, EVERY), (leave_with_caller, Kind.OURS))


async def keep_deadline(call: Call, proceed: Proceed) -> Any:
    """End a call at the deadline that its header asks for; nothing else does, as gRPC's transport does for its own."""
    seconds = seconds_of(call)
    if seconds is None:
        return await proceed()
    call.deadline = call.arrived + seconds
    try:
        async with asyncio.timeout(seconds):
            return await proceed()
    except TimeoutError:
        raise deadline_exceeded(f"the call took longer than the {seconds:g} s that it was given") from None


async def leave_with_caller(call: Call, proceed: Proceed) -> Any:
    """Cancel a call whose caller closes the connection, so that nothing is computed for nobody."""
    assert isinstance(call, HttpCall)
    working = asyncio.current_task()
    assert working is not None

    async def watch() -> None:
        if await call.gone():
            call.left = True
            working.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await proceed()
    finally:
        watching.cancel()


def _missing(method: str, path: str, methods: Sequence[str]) -> Endpoint:
    """Return an endpoint that refuses a request for what is not there."""

    async def refuse(_: object, call: HttpCall) -> None:
        raise method_not_found(f"{method} {path}")

    def form(error: Any, request_id: str) -> HttpAnswer:
        answer = openai_form(error, request_id)
        if not methods or error.reason != "METHOD_NOT_FOUND":
            return answer
        return HttpAnswer(answer.parts, 405, headers={"allow": ", ".join(methods)})

    # The log has the path, in which anybody may write lines of their own.
    return Endpoint(method, quote(path[:200]), refuse, form, "There is no such endpoint.", kind=Kind.MISSING)
