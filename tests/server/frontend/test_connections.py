"""The limits of connections, and of what each may take, with gRPC's own servers and clients and our arguments."""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from bertstream.server.config import FIELDS
from bertstream.server.frontend import transport
from bertstream.server.settings import HANDSHAKE_SECONDS, ConnectionLimits
from tests.support import http2
from tests.support.hosted import LIMITS
from tests.support.imports import ROOT

_numbers = itertools.count()  # channels with the same arguments would share a connection


class Served:
    """A server of two rpcs: one answers after the requested milliseconds, the other streams until it is cancelled."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.under_way = self.most = 0
        self.config: dict[str, Any] = {}  # of channels

    async def answer(self, request: bytes, context: Any) -> bytes:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(int(request or b"0") / 1e3)
        finally:
            self.under_way -= 1
        return b""

    async def stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield b"more"
            await asyncio.sleep(0.05)

    def channel(self) -> grpc.aio.Channel:
        options = [("tests.number", next(_numbers)), ("grpc.service_config", json.dumps(self.config))]
        return grpc.aio.insecure_channel(self.address, options)


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Served]:
    server = grpc.aio.server(options=transport.arguments(LIMITS, ConnectionLimits(**limits)))
    served = Served(server.add_insecure_port("127.0.0.1:0"))
    handlers: dict[str, Any] = {
        "Answer": grpc.unary_unary_rpc_method_handler(served.answer),
        "Stream": grpc.unary_stream_rpc_method_handler(served.stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("a.B", handlers)])
    await server.start()
    try:
        yield served
    finally:
        await server.stop(0)


async def call(channel: grpc.aio.Channel, milliseconds: int = 0, **options: Any) -> float:
    """Make a call, and return how many seconds it took."""
    began = time.monotonic()
    method: Any = channel.unary_unary("/a.B/Answer")
    await method(str(milliseconds).encode(), timeout=60, **options)
    return time.monotonic() - began


async def code_of(waiting: Awaitable[Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await waiting
    return raised.value.code()


async def eventually(attempt: Callable[[], Awaitable[Any]]) -> None:
    """Repeat the attempt until it raises no error; fail after a minute."""
    async with asyncio.timeout(60):
        while True:
            try:
                await attempt()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)
            else:
                return


def test_the_defaults_are_those_of_the_configuration() -> None:
    defaults = ConnectionLimits()
    for name in ConnectionLimits.__dataclass_fields__:
        assert getattr(defaults, name) == FIELDS[name].default


@pytest.mark.parametrize(
    ("soft", "hard", "expected", "warned"),
    [
        (1024, 1 << 20, (4608, 1 << 20), False),
        (1 << 19, 1 << 20, None, False),
        (1024, resource.RLIM_INFINITY, (4608, resource.RLIM_INFINITY), False),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, False),
        (1024, 2048, (2048, 2048), True),
    ],
)
def test_a_frontend_may_open_as_many_files_as_connections_take(
    soft: int,
    hard: int,
    expected: tuple[int, int] | None,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    transport.allow_connections(4096)
    assert asked == ([expected] if expected else [])
    assert ("max_connections is 4096, but this process may open 2048 files" in caplog.text) == warned


async def test_more_connections_than_there_may_be_are_closed_until_others_go() -> None:
    async with serving(max_connections=2) as served:
        one, two, three = (served.channel() for _ in range(3))
        await call(one)
        await call(two)
        assert await code_of(call(three)) is grpc.StatusCode.UNAVAILABLE
        await call(one)
        await two.close()

        async def attempt() -> None:
            async with served.channel() as other:
                await call(other)

        await eventually(attempt)


async def test_more_calls_on_a_connection_than_there_may_be_wait() -> None:
    """A client may count one call less than the server, which then refuses it; it is tried again, as the SDK does."""
    policy = {"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2}
    async with serving(connection_streams=2) as served:
        retried = {"name": [{"service": "a.B"}], "retryPolicy": {**policy, "retryableStatusCodes": ["UNAVAILABLE"]}}
        served.config = {"methodConfig": [retried]}
        async with served.channel() as channel:
            await call(channel)  # by now the client knows
            await asyncio.gather(*(call(channel, 100) for _ in range(6)))
        assert served.most == 2


async def test_headers_have_a_bound_that_is_no_matter_of_chance() -> None:
    async with serving(max_header_bytes=4000) as served, served.channel() as channel:
        for size in (2000, 3000):
            for _ in range(5):
                await call(channel, metadata=(("x", "a" * size),))
        for size in (4000, 5000, 100_000):
            refused = await code_of(call(channel, metadata=(("x", "a" * size),)))
            assert refused is grpc.StatusCode.RESOURCE_EXHAUSTED
        await call(channel)  # the connection lives on


async def ended(address: str, seconds: float) -> tuple[http2.Said, float]:
    """Hold a connection without a call until the server ends it; return what it sent, and after how many seconds."""
    began = time.monotonic()
    said = await http2.wait_for_goaway(address, seconds)
    return said, time.monotonic() - began


async def test_a_connection_without_calls_is_closed() -> None:
    async with serving(connection_idle_seconds=0.5) as served:
        said, seconds = await ended(served.address, 20)
        assert said.goaway
        assert 0.4 < seconds < 10
        async with served.channel() as channel:  # the channel connects again by itself
            await call(channel)
            await asyncio.sleep(1.5)
            await call(channel)


async def test_calls_of_a_connection_that_is_too_old_go_on_within_the_grace() -> None:
    async with (
        serving(connection_age_seconds=0.3, connection_grace_seconds=20.0) as served,
        served.channel() as channel,
    ):
        assert await call(channel, 2000) >= 2.0
        began = time.monotonic()
        while time.monotonic() - began < 2:
            await call(channel, 10)  # none of them is lost


async def test_what_takes_longer_than_the_grace_is_cut_off() -> None:
    async with serving(connection_age_seconds=0.3, connection_grace_seconds=0.3) as served, served.channel() as channel:

        async def read() -> None:
            method: Any = channel.unary_stream("/a.B/Stream")
            async for _ in method(b"", timeout=60):
                pass

        assert await code_of(read()) is grpc.StatusCode.UNAVAILABLE
        await call(channel)


async def test_without_an_age_a_connection_goes_on() -> None:
    async with serving(connection_age_seconds=0.0, connection_idle_seconds=0.0) as served:
        said = await http2.ping(served.address, 3, 0.5)
        assert (said.answers, said.goaway) == (3, [])


async def test_a_connection_that_never_says_anything_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "HANDSHAKE_SECONDS", 0.5)
    async with serving() as served:
        host, _, port = served.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(20):
            while await reader.read(1000):
                pass
        writer.close()


def test_the_document_says_how_long_a_connection_may_take_to_come_up() -> None:
    assert f"{HANDSHAKE_SECONDS:.0f} s" in (ROOT / "docs/security.md").read_text()
