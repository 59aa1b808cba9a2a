"""What is under way when a server is told to stop is finished, whatever happens to its workers meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, types_pb2
from tests.support.server import eventually, running


def test_a_worker_that_dies_during_the_drain_is_replaced(
    checkpoint: Callable[[str], Path], compile_cache: Path
) -> None:
    ids = types_pb2.TokenIdLists(token_ids=[60] * 500 * 1000, lengths=[500] * 1000)
    request = encoding_pb2.EncodeTextsRequest(inputs=types_pb2.TextBatch(token_ids=ids))
    with running([f"tiny={checkpoint('bert')}"], "--workers", "1", cache=compile_cache) as server:
        channel = grpc.insecure_channel(server.address, [("grpc.enable_retries", 0)])
        stub = encoding_pb2_grpc.EncodingServiceStub(channel)
        call = stub.EncodeTexts.future(request)
        (worker,) = server.workers
        eventually(lambda: worker.cpu_percent(0.1) > 50, "the worker to be busy")
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: _refuses(stub), "the drain to begin")
        worker.kill()
        eventually(lambda: any(other.pid != worker.pid for other in server.workers), "another worker")
        assert not call.done()
        assert len(call.result(60).encodings.pooled.data) > 0
        channel.close()
        assert server.process.wait(60) == 0


def _refuses(stub: Any) -> bool:
    try:
        stub.EncodeTexts(
            encoding_pb2.EncodeTextsRequest(inputs=types_pb2.TextBatch(texts=types_pb2.Texts(texts=["a"])))
        )
    except grpc.RpcError as error:
        return bool(error.code() is grpc.StatusCode.UNAVAILABLE)
    return False
