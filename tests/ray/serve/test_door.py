"""The door of a replica, with the contexts that Ray would give it: answers, errors, streams and their ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from bertstream.ray.serve.contract import ENDED, SECONDS_LEFT
from bertstream.ray.serve.door import Door
from bertstream.server.embedded import EmbeddedServer
from bertstream.v1 import encoding_pb2
from tests.support.waiting import until


class FakeContext:
    """What a replica uses of RayServegRPCContext; trailers must be a list, as there."""

    def __init__(self, **metadata: str) -> None:
        self._metadata = list(metadata.items())
        self.ended: Any = None
        self.message = ""
        self.trailers: dict[str, Any] = {}

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def auth_context(self) -> dict[str, Any]:
        return {}

    def code(self) -> Any:
        return self.ended

    def set_code(self, code: grpc.StatusCode) -> None:
        self.ended = code

    def set_details(self, details: str) -> None:
        self.message = details

    def set_trailing_metadata(self, pairs: list[tuple[str, Any]]) -> None:
        self.trailers = dict([*pairs])

    def reason(self) -> str:
        """Return the reason of the error that the call has ended with."""
        status = status_pb2.Status.FromString(self.trailers["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        return info.reason


def texts(*given: str, **options: Any) -> bytes:
    request = encoding_pb2.EncodeTextsRequest(options=encoding_pb2.EncodingOptions(**options))
    request.inputs.texts.texts.extend(given)
    return request.SerializeToString()


async def requests(*messages: encoding_pb2.StreamEncodingsRequest) -> AsyncIterator[bytes]:
    for message in messages:
        yield message.SerializeToString()


def items(*given: str) -> encoding_pb2.StreamEncodingsRequest:
    message = encoding_pb2.StreamEncodingsRequest()
    message.items.ids.extend(range(len(given)))
    message.items.inputs.texts.texts.extend(given)
    return message


async def answers(stream: AsyncIterator[Any]) -> list[bytes]:
    return [answer.SerializeToString() async for answer in stream]


async def test_calls_through_the_door(checkpoint: Callable[[str], Path]) -> None:
    async with EmbeddedServer(models=[checkpoint("bert")], workers=1) as server:
        door = Door(server.core)
        vectors = await _single(door)
        await _errors(door)
        await _streams(door, vectors)
        await _cancelled(door, server)


async def _single(door: Door) -> bytes:
    context = FakeContext(**{"x-request-id": "mine"})
    answer = await door.answer("EncodeTexts", texts("a", "b c"), context)
    found = encoding_pb2.EncodeTextsResponse.FromString(answer.SerializeToString())
    assert found.usage.texts == 2
    assert context.ended is None
    assert context.trailers["x-request-id"] == "mine"
    assert "endpoint-load-metrics-bin" in context.trailers
    data = found.encodings.pooled.data
    assert np.frombuffer(data, np.float32).shape == (72,)
    return data


async def _errors(door: Door) -> None:
    for request, reason, code in (
        (texts("a", model="other"), "MODEL_NOT_FOUND", "NOT_FOUND"),
        (b"\xff\xff", "MALFORMED_MESSAGE", "INVALID_ARGUMENT"),
        (texts(), "INVALID_EMPTY_LIST", "INVALID_ARGUMENT"),
    ):
        context = FakeContext()
        assert (await door.answer("EncodeTexts", request, context)).SerializeToString() == ENDED
        assert (context.reason(), context.ended.name) == (reason, code)
        assert context.message
    context = FakeContext(**{SECONDS_LEFT: "0.0"})
    await door.answer("EncodeTexts", texts("a"), context)
    late = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)  # which says when it would fit
    assert context.ended in late


async def _streams(door: Door, vectors: bytes) -> None:
    first = encoding_pb2.StreamEncodingsRequest(options=encoding_pb2.EncodingOptions(model="bert"))
    context = FakeContext()
    *messages, end = await answers(door.stream("StreamEncodings", requests(first, items("a", "b c")), context))
    assert end == ENDED
    found = [encoding_pb2.StreamEncodingsResponse.FromString(raw) for raw in messages]
    assert [each.WhichOneof("event") for each in found] == ["started", "items"]
    assert found[1].items.encodings.pooled.data == vectors
    assert (context.ended, "x-request-id" in context.trailers) == (None, True)
    failed = FakeContext()
    assert await answers(door.stream("StreamEncodings", requests(items("a")), failed)) == [ENDED]
    assert failed.ended is grpc.StatusCode.INVALID_ARGUMENT
    layers = FakeContext()
    *messages, end = await answers(door.stream("StreamLayers", texts("a"), layers))
    assert (end, layers.ended) == (ENDED, None)
    assert len(messages) > 5


async def _cancelled(door: Door, server: EmbeddedServer) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield encoding_pb2.StreamEncodingsRequest(options=encoding_pb2.EncodingOptions()).SerializeToString()
        await asyncio.Event().wait()

    stream = door.stream("StreamEncodings", never(), FakeContext())
    await anext(stream)
    assert server.core.gate.fullness > 0
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: server.core.gate.fullness == 0)
