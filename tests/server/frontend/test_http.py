"""What a connection of HTTP may do, on a real port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import psutil
import pytest

from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.frontend.http import HttpListener, open_endpoints
from bertstream.server.frontend.links import links_of
from bertstream.server.protocols.http import health
from bertstream.server.protocols.http.answers import HttpAnswer, answer_of
from bertstream.server.protocols.http.app import HttpApp, links_of_http
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.forms import openai_form
from bertstream.server.protocols.interceptors.links import Kind
from bertstream.server.settings import ConnectionLimits, FrontendSettings, KeysSettings
from tests.support.hosted import LIMITS, free_port
from tests.support.waiting import until

GET = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"
LARGE = 32 << 20
Serve = Callable[..., Awaitable[int]]
ASKED: list[str] = []  # calls for much
gate = Gate(100)


async def large(body: Any, call: HttpCall) -> HttpAnswer:
    ASKED.append(call.method)
    return HttpAnswer((bytes(LARGE),))


async def slow(body: Any, call: HttpCall) -> HttpAnswer:
    await asyncio.sleep(60)
    return answer_of({})


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Yield a function that listens with these limits of connections, and returns the port."""
    listeners: list[HttpListener] = []

    async def start(**limits: Any) -> int:
        settings = FrontendSettings(
            "frontend", "127.0.0.1", 0, "0", (), LIMITS, 1, 1.0, 1.0, "warning",
            connections=replace(ConnectionLimits(), **limits), http_port=free_port(),
        )  # fmt: skip
        endpoints = (
            *health.endpoints(lambda: True),
            Endpoint("GET", "/large", large, openai_form, "Answer much."),
            Endpoint("GET", "/slow", slow, openai_form, "Answer late."),
        )
        links = links_of(gate, Keys(), identified=links_of_http(LIMITS, ConnectionLimits()))
        listener = HttpListener(settings, HttpApp(endpoints, links), None, 0.1)
        await listener.start()
        listeners.append(listener)
        return settings.http_port

    yield start
    for listener in listeners:
        await listener.close()


async def said(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Return all that the server says until it hangs up, of a caller that sends these parts and then nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(60):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause)
                with contextlib.suppress(TimeoutError):
                    heard += await asyncio.wait_for(reader.read(1 << 16), 0.01)
            while part := await reader.read(1 << 16):
                heard += part
    writer.close()
    return heard


async def answers(port: int, sent: bytes, count: int) -> bytes:
    """Return what the server says until it has given this many answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    heard = b""
    async with asyncio.timeout(60):
        while heard.count(b'{"status":"ok"}') < count:
            part = await reader.read(1 << 16)
            assert part, "the server has hung up"
            heard += part
    writer.close()
    return heard


async def test_a_connection_has_many_requests_also_at_once(serve: Serve) -> None:
    heard = await answers(await serve(), GET * 20, 20)
    assert heard.count(b"HTTP/1.1 200") == 20


async def test_headers_that_come_slowly_are_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertstream.server.web.connections.HANDSHAKE_SECONDS", 0.2)
    port = await serve()
    assert await said(port) == b""
    assert await said(port, *(bytes([each]) for each in GET[:-2]), pause=0.02) == b""
    heard = await said(port, GET, *(bytes([each]) for each in GET[:-2]), pause=0.02)  # the second of a connection, too
    assert heard.count(b"HTTP/1.1") == 1


async def test_idle_connections_are_closed(serve: Serve) -> None:
    assert (await said(await serve(connection_idle_seconds=0.1), GET)).count(b"HTTP/1.1 200") == 1


async def test_old_connections_are_closed(serve: Serve) -> None:
    port = await serve(connection_age_seconds=0.1)
    assert (await said(port, GET, GET, pause=0.2)).count(b"HTTP/1.1 200") in (1, 2)


async def test_connections_are_counted(serve: Serve) -> None:
    port = await serve(max_connections=2)
    kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    for reader, writer in kept:
        writer.write(GET)
        await reader.read(100)
    assert await said(port, GET) == b""
    kept[0][1].close()
    await asyncio.sleep(0.1)
    assert b"200" in await answers(port, GET, 1)
    kept[1][1].close()


async def test_a_reader_that_takes_nothing_is_cut_off(serve: Serve) -> None:
    ASKED.clear()
    port = await serve(stalled_seconds=0.2)
    sock = socket.create_connection(("127.0.0.1", port))
    with sock:
        sock.sendall(GET.replace(b"/health", b"/large"))
        await until(lambda: ASKED)
        await until(lambda: not is_held(sock))  # until the server has given up
        sock.settimeout(60)
        got = await asyncio.to_thread(_drained, sock)
    assert 0 < got < LARGE


def is_held(sock: socket.socket) -> bool:
    """Tell whether the server, which is in this process, has its end of this connection."""
    return any(each.raddr == sock.getsockname() for each in psutil.Process().net_connections("tcp"))


def _drained(sock: socket.socket) -> int:
    got = 0
    try:
        while part := sock.recv(1 << 20):
            got += len(part)
    except ConnectionError:
        pass
    return got


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01" + bytes(100) + b"\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),  # without a host
        (b"GET /health HTTP/1.1\r\nhost: a\r\n" + b"a: " + b"b" * 100_000 + b"\r\n\r\n", b"4"),
        (b"GET /health HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", b"4"),
        (b"POST /health HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n", b"40"),
        (b"POST /health HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"POST /health HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", b"400"),
        (GET + b"\x00\xff nonsense\r\n\r\n", b"200"),
        (b"GET /health HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade, close\r\n\r\n", b"200"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"40"),
    ],
)
async def test_what_is_no_http_ends_its_connection_alone(
    serve: Serve, caplog: pytest.LogCaptureFixture, sent: bytes, status: bytes
) -> None:
    port = await serve(connection_idle_seconds=1.0)
    heard = await said(port, sent)
    assert heard.startswith((b"HTTP/1.1 " + status, b"HTTP/1.0 " + status)) or not heard
    assert b"200" in await answers(port, GET, 1)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_who_leaves_early_leaves_nothing_behind(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    port = await serve()
    for sent in (GET.replace(b"/health", b"/slow"), b"POST /large HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{"):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await asyncio.sleep(0.1)
        writer.transport.abort()
    await until(lambda: gate.fullness == 0)
    assert caplog.records == []


def test_what_needs_no_key() -> None:
    endpoints = (
        Endpoint("GET", "/health", slow, openai_form, ""),
        Endpoint("GET", "/health", slow, openai_form, "", kind=Kind.STANDARD),
        Endpoint("GET", "/docs", slow, openai_form, "", kind=Kind.STANDARD),
    )
    assert open_endpoints(endpoints, None) == ()
    assert open_endpoints(endpoints, KeysSettings((), "")) == ("GET /health", "GET /docs")
    assert open_endpoints(endpoints, KeysSettings((), "", open_health=False)) == ("GET /docs",)
