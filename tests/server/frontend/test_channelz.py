from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.core.quotas import SharedCounts
from bertstream.server.frontend import links
from bertstream.server.frontend.channelz import METHODS, add_channelz
from bertstream.server.settings import KeyEntry
from tests.support.statuses import refusal


@pytest.fixture
async def served(tmp_path: Any) -> AsyncIterator[Any]:
    """Yield a stub of a server that knows an administrator and a user."""
    entries = (
        KeyEntry("ops", KeyEntry.hash_of("ops"), role="admin"),
        KeyEntry("me", KeyEntry.hash_of("me"), role="use"),
    )
    keys = Keys(entries, SharedCounts(tmp_path / "counts"))
    server = grpc.aio.server(interceptors=(links.chain(Gate(1), keys),))
    add_channelz(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        channel: Any = opened
        yield channelz_pb2_grpc.ChannelzStub(channel)
    await server.stop(None)


def key(name: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {name}"),)}


async def test_administrators_see_who_is_connected(served: Any) -> None:
    servers = (await served.GetServers(channelz_pb2.GetServersRequest(), **key("ops"))).server
    assert servers
    ids = [each.ref.server_id for each in servers]
    listed = [
        (await served.GetServerSockets(channelz_pb2.GetServerSocketsRequest(server_id=each), **key("ops"))).socket_ref
        for each in ids
    ]
    sockets = [socket.socket_id for each in listed for socket in each]
    assert sockets
    found = await served.GetSocket(channelz_pb2.GetSocketRequest(socket_id=sockets[-1]), **key("ops"))
    assert found.socket.data.streams_started >= 1


async def test_what_is_not_there_is_not_found(served: Any) -> None:
    found = await refusal(served.GetSocket(channelz_pb2.GetSocketRequest(socket_id=1 << 40), **key("ops")))
    assert found.code is grpc.StatusCode.NOT_FOUND
    assert found.info.reason == "CHANNELZ_NOT_FOUND"


async def test_nobody_else_does(served: Any) -> None:
    request = channelz_pb2.GetServersRequest()
    assert (await refusal(served.GetServers(request, **key("me")))).code is grpc.StatusCode.PERMISSION_DENIED
    assert (await refusal(served.GetServers(request))).code is grpc.StatusCode.UNAUTHENTICATED


def test_each_of_its_methods_is_known() -> None:
    assert len(METHODS) == 7
