"""A server that is told to stop finishes the calls under way, whatever happens to its workers meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from bertstream.client import Client, Health, Unavailable
from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, types_pb2
from tests.support.open_stream import OpenStream
from tests.support.server import WAITING, busy, eventually, running
from tests.support.web import ask

ONE_WORKER = ("--workers", "1")
# Longer than calls take, or seem to take, on a machine with much else to do.
PATIENT = (*WAITING, "--drain-seconds", "240", "--queue-seconds", "240")


def test_a_worker_that_dies_during_the_drain_is_replaced(
    checkpoint: Callable[[str], Path], compile_cache: Path
) -> None:
    ids = types_pb2.TokenIdLists(token_ids=[60] * 500 * 1000, lengths=[500] * 1000)
    request = encoding_pb2.EncodeTextsRequest(inputs=types_pb2.TextBatch(token_ids=ids))
    with running([f"tiny={checkpoint('bert')}"], *ONE_WORKER, *PATIENT, cache=compile_cache) as server:
        channel = grpc.insecure_channel(server.address, [("grpc.enable_retries", 0)])
        stub = encoding_pb2_grpc.EncodingServiceStub(channel)
        (worker,) = server.workers
        works = busy(worker)
        call = stub.EncodeTexts.future(request)
        eventually(works, "the worker to be busy")
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: _refuses(stub), "the drain to begin")
        worker.kill()
        eventually(lambda: any(other.pid != worker.pid for other in server.workers), "another worker")
        assert not call.done()
        assert len(call.result(240).encodings.pooled.data) > 0
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


def test_the_log_says_how_a_drain_goes(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    flags = *ONE_WORKER, "--frontends", "2", "--http-port", "0"
    with running([f"tiny={checkpoint('bert')}"], *flags, cache=compile_cache) as server:
        assert ask(f"{server.http_url}/health").status == 200
        streams = [OpenStream(server.address) for _ in range(3)]
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: bool(server.logged("calls are left")), "the calls to be told")
        told = [ask(f"{server.http_url}/{path}") for path in ("health", "v1/models") for _ in range(4)]
        assert {answer.status for answer in told} <= {200, 503}  # some frontends may have no stream, and be gone
        assert 503 in {answer.status for answer in told}
        for stream in streams:
            stream.end()
        assert server.process.wait(60) == 0
    (began,), (stopped,) = map(server.logged, ("SIGTERM: draining", "stopped"))
    left, *_ = server.logged("calls are left")  # which is told again every five seconds
    assert (began["signal"], began["drain_seconds"]) == ("SIGTERM", 30.0)
    assert (left["calls"], stopped["cut_off"], stopped["level"]) == (3, 0, "info")
    assert 0 <= left["seconds"] <= stopped["seconds"] < 30
    assert server.records[-1] == stopped


def test_the_log_says_what_a_drain_cuts_off(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    options = (*ONE_WORKER, "--frontends", "2", "--drain-seconds", "1")
    with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as server:
        streams = [OpenStream(server.address) for _ in range(3)]
        streams.pop().end()
        assert server.stop(signal.SIGINT) == 0
        assert [stream.code() for stream in streams] == [grpc.StatusCode.UNAVAILABLE] * 2
    (over,), (stopped,) = map(server.logged, ("the time is over: calls are cut off", "stopped"))
    assert server.logged("SIGINT: draining")
    assert (over["level"], over["calls"]) == ("warning", 2)
    assert (stopped["level"], stopped["cut_off"]) == ("warning", 2)
    assert stopped["seconds"] >= over["seconds"] >= 1


def test_the_log_says_what_a_second_signal_cuts_off(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    with running([f"tiny={checkpoint('bert')}"], *ONE_WORKER, cache=compile_cache) as server:
        stream = OpenStream(server.address)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: bool(server.logged("calls are left")), "the calls to be told")
        assert server.stop(signal.SIGINT) == 0
        stream.end()
    (again,), (stopped,) = map(server.logged, ("SIGINT again: calls are not waited for", "stopped"))
    assert (again["calls"], stopped["cut_off"]) == (1, 1)


def test_health_turns_before_calls_are_refused(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    """Call a server that gives notice, until it refuses, with health asked before each call."""
    options = (*ONE_WORKER, "--drain-notice-seconds", "1")
    with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as server:
        stream = OpenStream(server.address)
        with Client(server.address, retries=0, channels=1) as client:
            expected = client.encode(["a"])
            server.process.send_signal(signal.SIGTERM)
            answered: list[Health] = []

            def call() -> None:
                while True:
                    answered.append(client.health())
                    assert (client.encode(["a"]) == expected).all()

            with pytest.raises(Unavailable) as raised:
                call()
        stream.end()
        assert server.process.wait(60) == 0
    assert raised.value.reason == "DRAINING"
    assert answered.count(Health.NOT_SERVING) > 1  # so that a call was answered after the first of them
    assert answered == sorted(answered, key=lambda health: health is Health.NOT_SERVING)
    (stopped,) = server.logged("stopped")
    assert (stopped["cut_off"], stopped["seconds"] >= 1) == (0, True)
