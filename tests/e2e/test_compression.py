"""Compressed messages to a real server: they work, and take no more memory than messages may have bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, types_pb2
from tests.support.server import Server, eventually, running

LARGE = 200 << 20  # bytes, some 200 KiB of which are sent
AT_MOST = 64 << 20  # bytes by which a frontend may grow while it reads them
REQUEST = encoding_pb2.EncodeTextsRequest(inputs=types_pb2.TextBatch(texts=types_pb2.Texts(texts=["fox " * 20] * 50)))
GZIP, DEFLATE = grpc.Compression.Gzip, grpc.Compression.Deflate


@pytest.fixture(scope="module")
def fresh(checkpoint: Callable[[str], Path], compile_cache: Path) -> Iterator[Server]:
    options = ("--workers", "1", "--frontends", "1")
    with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as started:
        yield started


@pytest.fixture
def channel(fresh: Server) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(fresh.address, options=options) as opened:
        yield opened


def peak(server: Server) -> int:
    """Return the most bytes that the frontend has had in memory so far."""
    (frontend,) = server.children("bertstream.server.frontend.process")
    status = Path(f"/proc/{frontend.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def refused(channel: grpc.Channel, raw: bytes, compression: grpc.Compression) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/bertstream.v1.EncodingService/EncodeTexts", request_serializer=bytes)(
            raw, compression=compression, timeout=240
        )
    return caught.value


def reason(error: Any) -> str:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(details).details[0].Unpack(info)
    return info.reason


def test_gzip_gives_the_same_answers(channel: grpc.Channel) -> None:
    stub = encoding_pb2_grpc.EncodingServiceStub(channel)
    plain, compressed = stub.EncodeTexts(REQUEST), stub.EncodeTexts(REQUEST, compression=GZIP)
    assert compressed.encodings.pooled == plain.encodings.pooled
    items = encoding_pb2.EncodingItems(inputs=REQUEST.inputs)
    requests = [
        encoding_pb2.StreamEncodingsRequest(options=encoding_pb2.EncodingOptions()),
        encoding_pb2.StreamEncodingsRequest(items=items),
    ]
    _, *answers = stub.StreamEncodings(iter(requests), compression=GZIP)
    assert sorted(item for answer in answers for item in answer.items.ids) == list(range(50))


def test_health_takes_gzip_too(channel: grpc.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service="models/tiny"), compression=GZIP)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_what_inflates_to_more_than_a_message_may_have_is_refused_in_little_memory(
    fresh: Server, channel: grpc.Channel
) -> None:
    encoding_pb2_grpc.EncodingServiceStub(channel).EncodeTexts(REQUEST)
    before, zeros = peak(fresh), bytes(LARGE)
    errors: list[Any] = []
    threads = [threading.Thread(target=lambda: errors.append(refused(channel, zeros, GZIP))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [error.code() for error in errors] == [grpc.StatusCode.INVALID_ARGUMENT] * 3
    assert {reason(error) for error in errors} == {"REQUEST_TOO_LARGE"}
    assert peak(fresh) - before < AT_MOST


def test_other_compressions_are_refused_before_they_take_memory(fresh: Server, channel: grpc.Channel) -> None:
    before = peak(fresh)
    for raw in (REQUEST.SerializeToString(), bytes(LARGE)):
        error = refused(channel, raw, DEFLATE)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "deflate" in error.details()
    assert peak(fresh) - before < AT_MOST


def test_what_the_core_writes_of_it_by_itself_is_in_the_log(fresh: Server, channel: grpc.Channel) -> None:
    refused(channel, REQUEST.SerializeToString(), DEFLATE)
    eventually(lambda: any("deflate" in each["message"] for each in fresh.records), "the core's line")
    (record, *_) = [each for each in fresh.records if "deflate" in each["message"]]
    assert (record["process"], record["child"], record["level"]) == ("supervisor", "frontend-0", "warning")
