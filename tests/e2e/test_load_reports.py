"""What balancers learn of a real server: reports of its load in the trailers of calls, and apart from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bertstream.server.protocols.orca import SERVICE_NAME, TRAILER, OrcaLoadReport, OrcaLoadReportRequest
from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, types_pb2
from tests.support.http2 import trailer
from tests.support.server import Server, running

ENCODE, STREAM = (f"/bertstream.v1.EncodingService/{rpc}" for rpc in ("EncodeTexts", "StreamEncodings"))
GOOD = encoding_pb2.EncodeTextsRequest(inputs=types_pb2.TextBatch(texts=types_pb2.Texts(texts=["one", "two"])))
OPTIONS = encoding_pb2.StreamEncodingsRequest(options=encoding_pb2.EncodingOptions())


async def report(server: Server, path: str, message: Any) -> Any:
    """Return the report at the end of a call, which gRPC's own clients keep for their balancers."""
    return OrcaLoadReport.FromString(await trailer(server.address, path, message.SerializeToString(), TRAILER))


async def test_a_call_ends_with_the_server_s_load(server: Server) -> None:
    found = await report(server, ENCODE, GOOD)
    assert found.cpu_utilization >= 0.0
    assert 0.0 < found.mem_utilization < 1.0
    assert found.application_utilization >= found.cpu_utilization
    assert "bertstream.queue_seconds.all-MiniLM-L6-v2" in found.named_metrics
    await asyncio.sleep(0.11)  # for a new report
    assert (await report(server, ENCODE, GOOD)).rps_fractional > 0.0


@pytest.mark.parametrize(
    ("path", "message"),
    [(ENCODE, encoding_pb2.EncodeTextsRequest()), (STREAM, OPTIONS), (STREAM, encoding_pb2.StreamEncodingsRequest())],
    ids=["a call that fails", "a stream", "a stream that fails"],
)
async def test_so_does(server: Server, path: str, message: Any) -> None:
    assert (await report(server, path, message)).mem_utilization > 0.0


def test_clients_ignore_it(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = encoding_pb2_grpc.EncodingServiceStub(channel)
        _, call = stub.EncodeTexts.with_call(GOOD)
    assert list(dict(call.trailing_metadata())) == ["x-request-id"]


async def test_it_can_be_turned_off(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    options = ("--workers", "1", "--no-load-reports")
    with (
        running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as server,
        pytest.raises(ValueError, match="not found"),
    ):
        await report(server, ENCODE, GOOD)


def test_reports_come_apart_from_calls_too(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        rpc: Any = channel.unary_stream(
            f"/{SERVICE_NAME}/StreamCoreMetrics",
            request_serializer=OrcaLoadReportRequest.SerializeToString,
            response_deserializer=OrcaLoadReport.FromString,
        )
        call = rpc(OrcaLoadReportRequest(report_interval=Duration(nanos=1)), timeout=30)
        reports = [next(call), next(call)]
        call.cancel()
    assert all(0.0 < each.mem_utilization < 1.0 for each in reports)


def test_who_is_connected_is_told_to_nobody_by_default(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        rpc: Any = channel.unary_unary("/grpc.channelz.v1.Channelz/GetServers")
        with pytest.raises(grpc.RpcError) as raised:
            rpc(b"", timeout=30)
    refused: Any = raised.value
    assert refused.code() is grpc.StatusCode.UNIMPLEMENTED
