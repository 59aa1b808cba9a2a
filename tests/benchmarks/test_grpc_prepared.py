"""Bulk workloads in prepared messages, against a fake server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.peers import Settings
from benchmarks.peers.grpc_prepared import MESSAGE_TEXTS, STREAMS, Prepared, PreparedClient, Room, requests, waiting
from bertstream.v1 import encoding_pb2
from tests.client.fake_server import Code, FakeServer, status
from tests.support.waiting import until

TEXTS = [f"text number {number}" for number in range(5 * MESSAGE_TEXTS + 7)]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    found = FakeServer()
    yield found
    found.close()


@pytest.fixture
def client(server: FakeServer) -> Iterator[PreparedClient]:
    made = PreparedClient(Settings("grpc_prepared", "", "", "", "cpu", 1, 32, "", {"address": server.address}))
    yield made
    made.close()


def test_all_texts_are_answered_as_the_sdk_has_them(server: FakeServer, client: PreparedClient) -> None:
    texts = client.ready(TEXTS)
    (choice,) = client.choices()
    got = client.encode(texts, choice)
    sent = server.seen.messages
    want = np.concatenate([batch.vectors for batch in client.client.encode_stream(TEXTS, max_length=32)])
    np.testing.assert_array_equal(got, want)
    assert (sent, choice.streams) == (6, STREAMS)
    np.testing.assert_array_equal(client.encode_one([texts[3]])[0], want[3])


def test_a_stream_that_breaks_says_why(server: FakeServer, client: PreparedClient) -> None:
    server.does.breaks.extend([(0, status(Code.INTERNAL, "it broke"))] * STREAMS)
    with pytest.raises(ConnectionError, match="the stream broke: it broke"):
        client.encode(client.ready(TEXTS), client.choices()[0])


def test_messages_carry_all_texts_in_order() -> None:
    prepared = Prepared(TEXTS)
    assert prepared == TEXTS
    assert [each.texts for each in prepared.messages] == [MESSAGE_TEXTS] * 5 + [7]
    items = [encoding_pb2.StreamEncodingsRequest.FromString(each.data).items for each in prepared.messages]
    assert [each.first_id for each in items] == [MESSAGE_TEXTS * number for number in range(6)]
    assert [text for each in items for text in each.inputs.texts.texts] == TEXTS


def test_no_more_is_under_way_than_there_is_room_for() -> None:
    room, sent = Room(), list[bytes]()
    following = requests(encoding_pb2.EncodingOptions(), waiting(Prepared(TEXTS).messages), room)
    next(following)
    thread = threading.Thread(target=lambda: sent.extend(following))
    thread.start()
    assert sent == []  # the server has not announced its window yet
    room.open(2 * MESSAGE_TEXTS)
    for fit in (2, 3, 4):
        asyncio.run(until(lambda fit=fit: len(sent) == fit))  # type: ignore[misc]
        assert room.under_way == 2 * MESSAGE_TEXTS
        room.give(MESSAGE_TEXTS)
    room.give(2 * MESSAGE_TEXTS)
    thread.join()
    assert (len(sent), room.under_way) == (6, 7)


def test_a_closed_stream_sends_nothing_more() -> None:
    room = Room()
    following = requests(encoding_pb2.EncodingOptions(), waiting(Prepared(TEXTS).messages), room)
    next(following)
    room.close()
    assert list(following) == []
