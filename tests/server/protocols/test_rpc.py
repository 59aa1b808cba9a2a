"""Servicers that answer as the test says, behind a real server on a real port."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from bertstream.server.core import errors
from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.frontend.links import chain
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded, decoder
from bertstream.server.protocols.rpc import add_service, handlers_of
from bertstream.server.protocols.utf8 import BadString
from bertstream.v1 import encoding_pb2, types_pb2
from tests.support.statuses import refusal
from tests.support.waiting import until, with_more_time

MAX_BYTES = 10_000
SERVICE = encoding_pb2.DESCRIPTOR.services_by_name["EncodingService"]
Request, Response = encoding_pb2.EncodeTextsRequest, encoding_pb2.EncodeTextsResponse
TEXTS = Request(inputs=types_pb2.TextBatch(texts=types_pb2.Texts(texts=["MARK1", "b"])))


class Servicer:
    """Answers with the function that the test sets."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.requests: list[Decoded[encoding_pb2.EncodeTextsRequest]] = []
        self.unary: Callable[[], Any] = lambda: None
        self.stream: Callable[[Stream[Any]], Any] = lambda _: asyncio.sleep(0)
        self.cancelled = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return self.encode_texts  # for the service's other rpcs, which nobody calls

    async def encode_texts(self, request: Decoded[encoding_pb2.EncodeTextsRequest], call: Call) -> Any:
        self.calls.append(call)
        self.requests.append(request)
        request.value()
        try:
            answer = self.unary()
            return await answer if asyncio.iscoroutine(answer) else answer or Response()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def stream_encodings(self, stream: Stream[Any], call: Call) -> None:
        self.calls.append(call)
        try:
            await self.stream(stream)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Served:
    def __init__(self, servicer: Servicer, channel: grpc.aio.Channel) -> None:
        self.servicer = servicer
        self._channel = channel

    def encode(self, raw: bytes = TEXTS.SerializeToString(), **options: Any) -> Any:
        method: Any = self._channel.unary_unary("/bertstream.v1.EncodingService/EncodeTexts")
        return method(raw, **options)

    def stream(self, **options: Any) -> Any:
        method: Any = self._channel.stream_stream(
            "/bertstream.v1.EncodingService/StreamEncodings",
            request_serializer=encoding_pb2.StreamEncodingsRequest.SerializeToString,
            response_deserializer=encoding_pb2.StreamEncodingsResponse.FromString,
        )
        return method(**options)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    server = grpc.aio.server(
        interceptors=(chain(Gate(100), Keys()),), options=[("grpc.max_receive_message_length", 10 * MAX_BYTES)]
    )
    servicer = Servicer()
    add_service(server, SERVICE, handlers_of(servicer, SERVICE), MAX_BYTES)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(servicer, channel)
    await server.stop(None)


def _secret() -> None:
    raise KeyError("secret")


async def test_a_call_is_answered(served: Served) -> None:
    served.servicer.unary = lambda: Response(usage=types_pb2.Usage(texts=2))
    raw = await served.encode()
    assert Response.FromString(raw).usage.texts == 2
    assert served.servicer.requests[0].value() == TEXTS
    assert served.servicer.requests[0].bad_strings == ()


async def test_a_bug_of_ours_says_nothing_but_the_request_id(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.servicer.unary = _secret
    found = await refusal(served.encode(metadata=(("x-request-id", "mine-1"),)))
    assert found.code is grpc.StatusCode.INTERNAL
    assert found.info.reason == "INTERNAL"
    assert found.request.request_id == found.trailing["x-request-id"] == "mine-1"
    assert "secret" not in str(found.message) + str(found.status)
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [vars(record)["request_id"] for record in logged] == ["mine-1"]
    assert "secret" in str(logged[0].exc_info)


@pytest.mark.parametrize("given", [None, "", "with space", "x" * 129])
async def test_a_request_id_is_made_where_none_is_usable(served: Served, given: str | None) -> None:
    served.servicer.unary = _secret
    found = await refusal(served.encode(metadata=() if given is None else (("x-request-id", given),)))
    made = found.request.request_id
    assert len(made) == 32
    assert found.trailing["x-request-id"] == made != given


async def test_errors_carry_their_details_and_push_retries_back(served: Served) -> None:
    def fail() -> None:
        raise errors.overloaded("größer als möglich\n100 %", 1.25)

    served.servicer.unary = fail
    found = await refusal(served.encode())
    assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert found.message == "größer als möglich\n100 %"
    assert found.info.reason == "OVERLOADED"
    assert found.status.code == found.code.value[0]
    assert found.trailing["grpc-retry-pushback-ms"] == "1250"


async def test_errors_that_are_not_to_be_retried_say_so(served: Served) -> None:
    def fail() -> None:
        raise errors.invalid("inputs", "is bad")

    served.servicer.unary = fail
    assert (await refusal(served.encode())).trailing["grpc-retry-pushback-ms"] == "-1"


async def test_a_message_that_is_too_large_is_refused_with_details(served: Served) -> None:
    found = await refusal(served.encode(bytes(MAX_BYTES + 1)))
    assert (found.code, found.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_LARGE")
    assert str(MAX_BYTES) in str(found.message)
    await served.encode()


async def test_bytes_that_are_no_message(served: Served) -> None:
    found = await refusal(served.encode(b"\xff\xff\xff"))
    assert (found.code, found.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    await served.encode()


async def test_strings_that_are_not_utf8_are_told_and_blanked(served: Served) -> None:
    await served.encode(TEXTS.SerializeToString().replace(b"MARK1", b"\xff" * 5))
    request = served.servicer.requests[0]
    assert request.bad_strings == (BadString("inputs.texts.texts", 0),)
    assert list(request.value().inputs.texts.texts) == [" " * 5, "b"]


async def test_the_deadline_is_known_and_ends_the_call(served: Served) -> None:
    before = time.monotonic()
    await served.encode(timeout=50)
    assert before + 40 < served.servicer.calls[0].deadline < time.monotonic() + 51
    served.servicer.calls[0].check_deadline()
    served.servicer.unary = lambda: asyncio.sleep(60)

    async def late(seconds: float) -> None:
        found = await refusal(served.encode(timeout=seconds))
        assert found.code is grpc.StatusCode.DEADLINE_EXCEEDED

    await with_more_time(late, lambda: len(served.servicer.calls) > 1, 0.1)
    await asyncio.wait_for(served.servicer.cancelled.wait(), 60)


async def test_no_deadline_is_for_ever(served: Served) -> None:
    await served.encode()
    assert served.servicer.calls[0].deadline == math.inf


async def test_a_deadline_that_has_passed_is_noticed(served: Served) -> None:
    await served.encode()
    call = served.servicer.calls[0]
    call.deadline = time.monotonic()
    with pytest.raises(errors.RequestError) as raised:
        call.check_deadline()
    assert raised.value.reason == "DEADLINE_EXCEEDED"


async def test_cancelling_a_call_cancels_its_handler_and_is_no_error(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.servicer.unary = lambda: asyncio.sleep(60)
    call = served.encode()
    await until(lambda: served.servicer.calls)
    call.cancel()
    await asyncio.wait_for(served.servicer.cancelled.wait(), 60)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_streams_read_and_write_as_they_like(served: Served) -> None:
    async def echo(stream: Stream[Any]) -> None:
        async for decoded in stream:
            ids = [decoded.value().items.first_id]
            items = encoding_pb2.EncodedItems(ids=ids)
            await stream.write(encoding_pb2.StreamEncodingsResponse(items=items))

    served.servicer.stream = echo
    call = served.stream()
    for number in range(3):
        items = encoding_pb2.EncodingItems(first_id=number)
        await call.write(encoding_pb2.StreamEncodingsRequest(items=items))
        assert list((await call.read()).items.ids) == [number]
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_an_error_ends_a_stream_with_its_status(served: Served) -> None:
    async def fail(stream: Stream[Any]) -> None:
        await stream.write(encoding_pb2.StreamEncodingsResponse())
        raise errors.draining()

    served.servicer.stream = fail
    call = served.stream()
    assert await call.read() == encoding_pb2.StreamEncodingsResponse()
    found = await refusal(call.read())
    assert (found.code, found.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


def test_decoding_never_raises() -> None:
    decode = decoder(Request, 100)
    assert decode(b"").value() == Request()
    for raw in (b"\xff", bytes(101)):
        decoded = decode(raw)
        assert decoded.message == Request()
        with pytest.raises(errors.RequestError):
            decoded.value()
