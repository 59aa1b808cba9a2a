"""A real server ends connections that are too old, and calls whose readers stall."""

from __future__ import annotations

import itertools
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from bertstream.client import AsyncClient, Client, LayersDone, RpcError
from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, types_pb2
from tests.support.server import Server, eventually, running

STATES = encoding_pb2.EncodingOptions(outputs=[encoding_pb2.ENCODING_OUTPUT_LAST_HIDDEN_STATE])
IDS = types_pb2.TokenIdLists(token_ids=[60] * 500 * 64, lengths=[500] * 64)  # of which the states are 4.6 MB
TEXTS = types_pb2.TextBatch(token_ids=IDS)


@pytest.fixture(scope="module")
def server(checkpoint: Callable[[str], Path], compile_cache: Path) -> Iterator[Server]:
    """Yield a server of one call at a time, with connections that live for a second and calls for one more."""
    ages = ("--connection-age-seconds", "1", "--connection-grace-seconds", "1")
    options = ("--workers", "1", "--threads", "1", "--frontends", "1", "--concurrent-calls", "1", *ages)
    with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as started:
        yield started


@pytest.fixture(scope="module")
def impatient(checkpoint: Callable[[str], Path], compile_cache: Path) -> Iterator[Server]:
    """Yield a server of one call at a time, whose readers may stall for a second."""
    options = ("--workers", "1", "--threads", "1", "--frontends", "1", "--concurrent-calls", "1")
    with running([f"tiny={checkpoint('bert')}"], *options, "--stalled-seconds", "1", cache=compile_cache) as started:
        yield started


def slowly(count: int) -> Iterator[list[int]]:
    for index in range(count):
        time.sleep(0.05)
        yield [5 + index % 30, 60]


def test_a_stream_outlives_its_connections(server: Server) -> None:
    with Client(server.address) as client:
        ids = [index for batch in client.encode_stream(slowly(70), batch_size=4) for index in batch.ids]
    assert ids == list(range(70))


async def test_an_asynchronous_stream_does_too(server: Server) -> None:
    async with AsyncClient(server.address) as client:
        stream = client.encode_stream(slowly(70), batch_size=4)
        ids = [index async for batch in stream for index in batch.ids]
    assert ids == list(range(70))


def test_no_unary_call_is_lost_between_connections(server: Server) -> None:
    """Call without retries, so that a lost call would be seen."""
    end = time.monotonic() + 3
    with Client(server.address, channels=1, retries=0) as client:
        expected = client.encode([[5, 6]])
        while time.monotonic() < end:
            assert (client.encode([[5, 6]]) == expected).all()


def requests(over: threading.Event) -> Iterator[encoding_pb2.StreamEncodingsRequest]:
    yield encoding_pb2.StreamEncodingsRequest(options=STATES)
    yield encoding_pb2.StreamEncodingsRequest(items=encoding_pb2.EncodingItems(inputs=TEXTS))
    over.wait()


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "StreamLayers": lambda stub, over: stub.StreamLayers(encoding_pb2.StreamLayersRequest(inputs=TEXTS)),
    "StreamEncodings": lambda stub, over: stub.StreamEncodings(requests(over)),
}


@pytest.mark.parametrize("rpc", CALLS)
def test_a_reader_that_stalls_is_let_go_and_told_so(impatient: Server, rpc: str) -> None:
    over = threading.Event()
    with grpc.insecure_channel(impatient.address) as channel, Client(impatient.address, retries=0) as others:
        stub, began = encoding_pb2_grpc.EncodingServiceStub(channel), list[Any]()

        def takes_the_place() -> bool:
            """Stall, and return whether others are refused: here they may come only when the stalled call has ended."""
            assert answers(others)
            began.append(CALLS[rpc](stub, over))
            next(began[-1])
            return not answers(others)

        eventually(takes_the_place, "a call that is refused")
        call = began[-1]
        eventually(lambda: answers(others), "its place to be free")
        with pytest.raises(grpc.RpcError) as raised:
            list(call)
        over.set()
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert raised.value.details() == "nothing of the answer was taken for 1 s; read it without long pauses"
    assert reason(raised.value) == "READER_STALLED"


def answers(client: Client) -> bool:
    """Return whether a call is answered, which is refused where another one is under way."""
    try:
        return client.encode([[5, 6]]).shape == (1, 36)
    except RpcError as error:
        if "calls are under way" not in str(error):
            raise
        return False


def reason(error: Any) -> str:
    trailing = dict(error.trailing_metadata())
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(trailing["grpc-status-details-bin"]).details:
        detail.Unpack(info)
    return info.reason


def test_a_pause_between_answers_is_no_stall(impatient: Server) -> None:
    """Pause between the texts of a stream, and between answers that the SDK has taken already."""

    def texts() -> Iterator[list[int]]:
        for index in range(2):
            time.sleep(1.5)
            yield [5 + index, 60]

    with Client(impatient.address) as client:
        assert sum(len(batch.ids) for batch in client.encode_stream(texts(), batch_size=1)) == 2
        seen = 0
        for batch in client.encode_stream(itertools.repeat([5, 6], 200), batch_size=100):
            time.sleep(1.5)
            seen += len(batch.ids)
        assert seen == 200
        events = client.stream_layers([[5, 6]])
        for _ in range(2):
            next(events)
            time.sleep(1.5)
        assert isinstance(list(events)[-1], LayersDone)


def test_a_frontend_may_open_enough_files(server: Server) -> None:
    (frontend,) = server.children("bertstream.server.frontend.process")
    soft, hard = frontend.rlimit(resource.RLIMIT_NOFILE)
    assert soft >= 4096 + 512 or soft == hard
