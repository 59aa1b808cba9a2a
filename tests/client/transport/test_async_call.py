"""One call of the asynchronous client, against a server that ends it while it is written to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from bertstream.client import RpcError, Unavailable
from bertstream.client._errors import error_from_call
from bertstream.client._transport.async_call import MASKED, AsyncInbox, AsyncStreamCall
from bertstream.client._transport.sync_call import End, Response
from tests.client.fake_status import PATIENCE

pytestmark = pytest.mark.smoke

ANSWERS = 20


@dataclass
class Breaking:
    """A service that answers the first request with many messages and a status."""

    address: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def answer(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        next(requests)
        yield from (b"%d" % number for number in range(ANSWERS))
        context.add_callback(self.ended.set)
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


@pytest.fixture
def breaking() -> Iterator[Breaking]:
    made, server = Breaking(), grpc.server(ThreadPoolExecutor(2))
    handlers: dict[str, Any] = {"Stream": grpc.stream_stream_rpc_method_handler(made.answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Breaking", handlers),))
    made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield made
    server.stop(0).wait()


async def test_a_failed_write_loses_none_of_the_answers_before_the_status(breaking: Breaking) -> None:
    async with grpc.aio.insecure_channel(breaking.address) as channel:
        call = AsyncStreamCall(0, inbox := AsyncInbox(), on_close=lambda _: None, error_of=error_from_call)
        call.start(channel.stream_stream("/Breaking/Stream"))
        await call.send(b"first")
        # Everything arrives while this task blocks the event loop, so that the write is tried before anything is read.
        assert breaking.ended.wait(PATIENCE)
        time.sleep(0.2)  # noqa: ASYNC251
        await call.send(b"second")
        events: list[Any] = []
        while not (events and isinstance(events[-1], End)):
            await inbox.wait()
            while event := inbox.poll():
                events.append(event)
        await call.close()
    assert events[:-1] == [Response(0, b"%d" % number) for number in range(ANSWERS)]
    assert isinstance(events[-1].error, Unavailable)
    assert str(events[-1].error) == "gone"


class Masked:
    """A call that grpc.aio says nothing true of, as a write to it has failed."""

    def __aiter__(self) -> Masked:
        return self

    async def __anext__(self) -> bytes:
        raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), MASKED)

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.INTERNAL

    async def details(self) -> str:
        return MASKED

    async def trailing_metadata(self) -> None:
        return None

    def cancel(self) -> None:
        pass


async def test_what_broke_without_a_status_is_noted_of_its_server() -> None:
    """Else the next call would go to the same server."""
    noted: list[RpcError] = []

    def error_of(error: Any) -> RpcError:
        noted.append(error_from_call(error))
        return noted[-1]

    call = AsyncStreamCall(0, inbox := AsyncInbox(), on_close=lambda _: None, error_of=error_of)
    call.start(Masked)
    await inbox.wait()
    event = inbox.poll()
    await call.close()
    assert isinstance(event, End)
    assert event.error is noted[-1]
    assert isinstance(noted[-1], Unavailable)
    assert "the stream broke" in str(noted[-1])
