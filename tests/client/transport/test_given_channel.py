"""A client over a channel of its caller's."""

from __future__ import annotations

import grpc
import pytest

from bertstream.client import AsyncClient, Client
from tests.client.fake_server import FakeServer


def test_a_given_channel_is_used_and_stays_open(server: FakeServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(2):
            with Client(channel=channel) as client:
                assert client.models()[0].name == "tiny"
                assert len(client.encode(["a", "b"])) == 2
    assert len(server.seen.peers) == 1


async def test_an_asynchronous_one_too(server: FakeServer) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        for _ in range(2):
            async with AsyncClient(channel=channel) as client:
                assert (await client.models())[0].name == "tiny"
                assert len(await client.encode(["a", "b"])) == 2
    assert len(server.seen.peers) == 1


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_channel_leads_to_one_server(kind: type[Client] | type[AsyncClient]) -> None:
    channel = grpc.insecure_channel("127.0.0.1:1")
    with pytest.raises(ValueError, match="a channel or several addresses"):
        kind("127.0.0.1:1,127.0.0.1:2", channel=channel)  # type: ignore[arg-type]
    channel.close()
