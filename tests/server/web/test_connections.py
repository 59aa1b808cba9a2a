"""What the admin port does with connections that say nothing."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import pytest

from bertstream.server.settings import ConnectionLimits
from bertstream.server.web.connections import BoundedConnection, YieldingConnection
from bertstream.server.web.serving import WebServer, listening, server_config

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class App:
    """Answers at once, and a request for /slow when it is told to."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await self.goes_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("connection", [BoundedConnection, YieldingConnection])
async def test_a_body_that_is_no_http_is_answered_once_and_the_log_has_no_error(
    caplog: pytest.LogCaptureFixture, connection: type[BoundedConnection]
) -> None:
    app, own, ready = App(), listening("127.0.0.1", 0), asyncio.Event()
    server = WebServer(server_config(app, None, http=partial(connection, ConnectionLimits())), ready.set)
    serving = asyncio.create_task(server.serve([own]))
    await ready.wait()
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*own.getsockname())
        writer.write(b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        server.should_exit = True
        await serving
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []


async def test_silent_connections_make_room_and_those_with_a_request_do_not() -> None:
    app, own, ready = App(), listening("127.0.0.1", 0), asyncio.Event()
    config = server_config(app, None, http=partial(YieldingConnection, ConnectionLimits(max_connections=3)))
    server = WebServer(config, ready.set)
    serving = asyncio.create_task(server.serve([own]))
    await ready.wait()
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*own.getsockname())
        writers.append(writer)
        return reader, writer

    async with asyncio.timeout(20):
        busy, writer = await connect()
        writer.write(GET.replace(b"/", b"/slow", 1))
        silent = [reader for reader, _ in (await connect(), await connect())]
        for _ in range(5):
            reader, other = await connect()
            other.write(GET)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        assert [await reader.read() for reader in silent] == [b"", b""]
        app.goes_on.set()
        assert (await busy.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        for writer in writers:
            writer.close()
        await asyncio.gather(*(each.wait_closed() for each in writers), return_exceptions=True)
        server.should_exit = True
        await serving
