"""Bulk streams over several servers at once, of which some are lost or come back meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bertstream.client import Client, NotFound, Unavailable
from tests.client.fake_server import Code, FakeServer, held, status
from tests.support.ports import held_port

COUNT = 3000


@pytest.fixture
def client(servers: tuple[FakeServer, FakeServer], connect: Callable[..., Any]) -> Any:
    return connect([each.address for each in servers])


def extend(ids: list[int], stream: Any) -> None:
    for batch in stream:
        ids.extend(batch.ids)


def ids_of(client: Any, texts: Any, **options: Any) -> list[int]:
    ids = list[int]()
    extend(ids, client.encode_stream(texts, **options))
    return ids


def shares(servers: tuple[FakeServer, FakeServer]) -> list[int]:
    return [each.seen.messages for each in servers]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream_is_shared(servers: tuple[FakeServer, FakeServer], client: Any, ordered: bool) -> None:
    with held(*servers, until=lambda: min(shares(servers)) > 0):
        ids = ids_of(client, ["a"] * COUNT, ordered=ordered)
    assert sorted(ids) == list(range(COUNT))
    assert not ordered or ids == sorted(ids)
    assert [each.seen.rpcs["StreamEncodings"] for each in servers] == [1, 1]
    assert sum(shares(servers)) == -(-COUNT // 64)


def test_a_stream_of_one_message_stays_with_one_server(servers: tuple[FakeServer, FakeServer], client: Any) -> None:
    for _ in range(4):
        ids_of(client, ["a"] * 64)
    assert [each.seen.rpcs["StreamEncodings"] for each in servers] == [2, 2]


def test_a_server_that_breaks_is_made_up_for_and_taken_up_again(
    servers: tuple[FakeServer, FakeServer], client: Any
) -> None:
    first, second = servers
    first.does.breaks.append((200, status(Code.UNAVAILABLE, "Socket closed")))
    with held(*servers, until=lambda: min(shares(servers)) > 0):
        assert ids_of(client, ["a"] * COUNT) == list(range(COUNT))
    assert first.seen.rpcs["StreamEncodings"] >= 1
    assert second.seen.rpcs["StreamEncodings"] == 1


def test_a_server_that_comes_back_takes_part_again(server: FakeServer, connect: Callable[..., Any]) -> None:
    """Close one server while texts are pulled, and open it again, until the stream has opened a call there."""
    started: list[FakeServer] = []

    def texts(port: int) -> Iterator[str]:
        yield from ["a"] * 1000
        started[0].close()
        yield from ["a"] * 1000
        started.append(FakeServer(port))
        while not started[1].seen.messages:
            yield "a"

    with held_port() as port:
        try:
            started.append(FakeServer(port))
            ids = ids_of(connect([started[0].address, server.address]), texts(port))
        finally:
            for each in started:
                each.close()
    assert ids == list(range(len(ids)))
    assert server.seen.rpcs["StreamEncodings"] == 1
    assert started[1].seen.rpcs["StreamEncodings"] >= 1


def test_rows_that_have_come_are_handed_out_before_the_error(
    servers: tuple[FakeServer, FakeServer], connect: Callable[..., Any]
) -> None:
    gone = status(Code.NOT_FOUND, "gone", "MODEL_NOT_FOUND")
    # Of a call that ends while it is written to, grpc.aio loses why, so that the next one has to say so.
    servers[0].does.breaks.extend([(100, gone), *[(0, gone)] * 5])
    ids = list[int]()
    with pytest.raises(NotFound):
        extend(ids, connect(servers[0].address).encode_stream(["a"] * 200, batch_size=10))
    assert ids == list(range(100))


def test_where_all_are_gone_the_error_names_each_in_the_end(connect: Callable[..., Any]) -> None:
    client = connect(["127.0.0.1:1", "127.0.0.1:2"], reconnect_seconds=0.2)
    with pytest.raises(Unavailable, match="none of 2 servers takes calls"):
        ids_of(client, ["a"])


def test_grpc_spreads_the_calls_of_a_stream_behind_one_target(servers: tuple[FakeServer, FakeServer]) -> None:
    with Client("ipv4:" + ",".join(each.address for each in servers), channels=1) as client:
        for _ in range(20):  # the first calls come before both are connected
            assert ids_of(client, ["a"] * COUNT) == list(range(COUNT))
            if min(shares(servers)):
                break
    assert min(shares(servers)) > 0


def test_how_many_calls_a_stream_has_can_be_said(server: FakeServer, connect: Callable[..., Any]) -> None:
    ids_of(connect(server.address), ["a"] * COUNT)
    assert server.seen.rpcs["StreamEncodings"] == 1
    # Without answers, as a call takes a message by itself that has nothing else under way.
    with held(server, until=lambda: server.seen.rpcs["StreamEncodings"] == 1 + 3):
        assert ids_of(connect(server.address, stream_calls=3), ["a"] * COUNT) == list(range(COUNT))
    assert server.seen.rpcs["StreamEncodings"] == 1 + 3
    with pytest.raises(ValueError, match="stream_calls must be at least 1"):
        Client(stream_calls=0)
