"""bertstream through gRPC with messages that are made before timing, so that the client hardly computes.

A GPU takes more texts per second than the SDK, which tracks each text, can send from one or two processes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import grpc
import numpy as np

from benchmarks.peers import Choice, Settings, Vectors
from benchmarks.peers.grpc_client import GrpcClient
from bertstream.v1 import encoding_pb2, types_pb2

MESSAGE_TEXTS, STREAMS = 128, 4
WINDOW = 1024  # the most texts under way in a stream; the server may allow fewer
METHOD = "/bertstream.v1.EncodingService/StreamEncodings"


@dataclass(frozen=True, slots=True)
class Message:
    """A serialised message, and its number of texts."""

    texts: int
    data: bytes


Messages = SimpleQueue[Message]


class Prepared(list[str]):
    """Texts, and the messages that carry them."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(texts)
        starts = range(0, len(texts), MESSAGE_TEXTS)
        self.messages = [message(start, texts[start : start + MESSAGE_TEXTS]) for start in starts]


class Room:
    """How many texts a stream may have under way: none until the server has announced its window."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._window = self.under_way = 0
        self._closed = False

    def open(self, window: int) -> None:
        """Set the window, in texts."""
        with self._changed:
            self._window = window
            self._changed.notify()

    def take(self, texts: int) -> bool:
        """Wait until there is room for these texts, or nothing else is under way. Returns False after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(texts))
            self.under_way += texts
            return not self._closed

    def give(self, texts: int) -> None:
        """Give the room of answered texts back."""
        with self._changed:
            self.under_way -= texts
            self._changed.notify()

    def close(self) -> None:
        """End all waiting for room."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _fits(self, texts: int) -> bool:
        return self._window > 0 and (self.under_way == 0 or self.under_way + texts <= self._window)


class PreparedClient(GrpcClient):
    """Bulk workloads in prepared messages, through streams on their own connections; single texts by the SDK."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._width = self.client.model().hidden_size
        truncation = types_pb2.TruncationOptions(max_length=settings.max_length)
        self._options = encoding_pb2.EncodingOptions(truncation=truncation)
        self._channels = [channel(settings.options["address"], number) for number in range(STREAMS)]

    def choices(self) -> Sequence[Choice]:
        """Return the only choice."""
        return (Choice(MESSAGE_TEXTS, STREAMS),)

    def ready(self, texts: list[str]) -> Prepared:
        """Return the texts with their messages."""
        return Prepared(texts)

    def encode(self, texts: list[str], choice: Choice) -> Vectors:
        """Return the vectors [n, d] of all texts, which `ready` made."""
        assert isinstance(texts, Prepared)
        vectors, messages = np.empty((len(texts), self._width), np.float32), waiting(texts.messages)
        with ThreadPoolExecutor(STREAMS) as pool:
            streams = [pool.submit(self._stream, channel, messages, vectors) for channel in self._channels]
            for stream in streams:
                stream.result()
        return vectors

    def _stream(self, channel: grpc.Channel, messages: Messages, vectors: Vectors) -> None:
        """Send messages as long as there are any, and write their vectors into the array."""
        room, read = Room(), encoding_pb2.StreamEncodingsResponse.FromString
        rpc = channel.stream_stream(METHOD, request_serializer=bytes, response_deserializer=read)
        call = rpc(requests(self._options, messages, room))
        try:
            for response in call:
                take_in(response, room, vectors)
            if room.under_way:
                raise ConnectionError(f"the stream ended with {room.under_way} texts unanswered")
        except grpc.RpcError as error:
            raise ConnectionError(f"the stream broke: {error.details()}") from None  # str(error) has many lines
        finally:
            room.close()
            call.cancel()

    def close(self) -> None:
        """Close the connections."""
        super().close()
        for each in self._channels:
            each.close()


def message(first: int, texts: Sequence[str]) -> Message:
    """Return a message with texts, whose ids begin with `first`."""
    inputs = types_pb2.TextBatch(texts=types_pb2.Texts(texts=texts))
    items = encoding_pb2.EncodingItems(first_id=first, inputs=inputs)
    return Message(len(texts), encoding_pb2.StreamEncodingsRequest(items=items).SerializeToString())


def waiting(messages: Sequence[Message]) -> Messages:
    """Return a queue of messages, each of which is taken once, by whichever stream has room."""
    queue: Messages = SimpleQueue()
    for each in messages:
        queue.put(each)
    return queue


def requests(options: encoding_pb2.EncodingOptions, messages: Messages, room: Room) -> Iterator[bytes]:
    """Yield the options, then messages, each when there is room for it."""
    yield encoding_pb2.StreamEncodingsRequest(options=options).SerializeToString()
    while room.take(MESSAGE_TEXTS):
        try:
            each = messages.get_nowait()
        except Empty:
            room.give(MESSAGE_TEXTS)
            return
        room.give(MESSAGE_TEXTS - each.texts)
        yield each.data


def take_in(response: encoding_pb2.StreamEncodingsResponse, room: Room, vectors: Vectors) -> None:
    """Take an answer: note its room, and write its rows into the vectors [n, d]."""
    if response.WhichOneof("event") == "started":
        room.open(min(WINDOW, response.started.window.max_items))
        return
    items = response.items
    if items.errors:
        raise ValueError(f"{len(items.errors)} texts failed, such as: {items.errors[0].status.message}")
    rows = np.frombuffer(items.encodings.pooled.data, "<f4").reshape(len(items.ids), -1)
    vectors[np.array(items.ids)] = rows
    room.give(len(items.ids))


def channel(address: str, number: int) -> grpc.Channel:
    """Return a channel with its own connection, since channels with equal arguments would share one."""
    options: list[tuple[str, Any]] = [("bertstream.bench", number), ("grpc.max_receive_message_length", 64 << 20)]
    return grpc.insecure_channel(address, options)


def load(settings: Settings) -> PreparedClient:
    """Return the adapter."""
    return PreparedClient(settings)
