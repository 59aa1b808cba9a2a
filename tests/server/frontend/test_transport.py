"""The arguments have the effect on gRPC's core that they are meant to have."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import grpc

from bertstream.server.frontend import transport
from bertstream.server.settings import ConnectionLimits
from tests.support import http2
from tests.support.hosted import LIMITS
from tests.support.imports import ROOT

INTERVAL = "grpc.http2.min_ping_interval_without_data_ms"


def test_the_core_knows_every_argument() -> None:
    """It would silently ignore an argument that it does not know."""
    found = importlib.util.find_spec("grpc._cython.cygrpc")
    assert found is not None
    assert found.origin is not None
    core = Path(found.origin).read_bytes()
    names = {name for name, _ in transport.arguments(LIMITS, ConnectionLimits())}
    assert len(names) > 8
    assert [name for name in sorted(names) if name.encode() + b"\0" not in core] == []


async def pinged(interval_ms: int, times: int, seconds: float) -> http2.Said:
    """Ping a server that allows a ping every `interval_ms`, and return what it sent."""
    arguments = {**dict(transport.arguments(LIMITS, ConnectionLimits())), INTERVAL: interval_ms}
    server = grpc.aio.server(options=list(arguments.items()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        return await http2.ping(f"127.0.0.1:{port}", times, seconds)
    finally:
        await server.stop(0)


async def test_a_connection_without_calls_may_be_kept_alive_by_pings() -> None:
    said = await pinged(50, times=8, seconds=0.3)  # some may come late, and the next ones soon after them
    assert (said.answers, said.goaway) == (8, [])


async def test_a_flood_of_pings_is_not_allowed() -> None:
    said = await pinged(60_000, times=6, seconds=0.02)
    assert said.goaway == [http2.ENHANCE_YOUR_CALM]


def test_pings_may_come_as_often_as_the_document_says_and_a_little_nearer_together() -> None:
    allowed = dict(transport.arguments(LIMITS, ConnectionLimits()))[INTERVAL] / 1e3
    assert 2.0 < allowed <= transport.PING_SECONDS / 2
    assert dict(transport.arguments(LIMITS, ConnectionLimits()))["grpc.keepalive_permit_without_calls"] == 1
    told = (ROOT / "docs/protocol.md").read_text()
    assert f"every {transport.PING_SECONDS:.0f} s" in told
