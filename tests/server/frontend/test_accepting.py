"""Calls of any path are answered, and end no server."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.frontend import accepting, links
from bertstream.server.protocols.rpc import add_handlers
from tests.support.http2 import answered
from tests.support.statuses import refusal
from tests.support.waiting import until

ECHO = "/some.Service/Echo"


@pytest.fixture
async def served() -> AsyncIterator[int]:
    """Yield the port of a server with one method, which says no word that could warn."""
    server = accepting.server((links.chain(Gate(100), Keys()),), ())

    async def echo(request: bytes, context: object) -> bytes:
        return request

    add_handlers(server, "some.Service", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await asyncio.wait_for(server.stop(None), 20)


@pytest.fixture
async def channel(served: int) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served}") as opened:
        yield opened


async def test_calls_are_answered_one_after_the_other_and_at_once(channel: Any) -> None:
    call = channel.unary_unary(ECHO)
    texts = [f"{number}".encode() for number in range(200)]
    assert await asyncio.gather(*map(call, texts)) == texts


@pytest.mark.parametrize(
    "path", ["/\udcff", "\udcff", "/some.Service/Echo\udcff", "/\udced\udca0\udc80", "/" + "\udcc8" * 100]
)
async def test_a_path_that_is_no_text_is_not_there(
    served: int, channel: Any, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    assert b"grpc-status\x0212" in await answered(f"127.0.0.1:{served}", path)
    assert await channel.unary_unary(ECHO)(b"fox") == b"fox"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("path", ["/some.Service/Nothing", "/", "/nothing"])
async def test_a_method_that_is_not_there(channel: Any, path: str) -> None:
    found = await refusal(channel.unary_unary(path)(b""))
    assert (found.code, found.info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND")
    assert found.trailing["x-request-id"]


async def test_calls_under_way_end_when_the_server_does(caplog: pytest.LogCaptureFixture) -> None:
    server, begun = accepting.server((), ()), asyncio.Event()

    async def wait(request: bytes, context: object) -> bytes:
        begun.set()
        await asyncio.sleep(60)
        return request

    add_handlers(server, "some.Service", {"Wait": grpc.unary_unary_rpc_method_handler(wait)})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        channel: Any = opened
        waiting = channel.unary_unary("/some.Service/Wait")(b"")
        await begun.wait()
        await asyncio.wait_for(server.stop(None), 20)
        with pytest.raises(grpc.aio.AioRpcError):
            await waiting
    await until(lambda: not [task for task in asyncio.all_tasks() if "accept" in str(task.get_coro())])
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_no_error_is_told_of_methods_whose_calls_are_not_taken_any_more(caplog: pytest.LogCaptureFixture) -> None:
    """The loop may notice that the server stops before gRPC's core ends what takes calls of each method."""
    server: Any = accepting.server((), ())
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    server._server._make_request_call_future(None).cancel()
    await asyncio.wait_for(server.stop(None), 20)
    await until(lambda: not [task for task in asyncio.all_tasks() if "accept" in str(task.get_coro())])
    gc.collect()  # with which asyncio tells of exceptions that nobody has looked at
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_server_that_ends_by_itself_is_told_from_one_that_is_stopped(crashes: bool) -> None:
    server, stop = accepting.server((), ()), asyncio.Event()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    waiting = asyncio.create_task(accepting.until_stopped(server, stop))
    await asyncio.sleep(0)
    if not crashes:
        stop.set()
        await waiting
    await asyncio.wait_for(server.stop(None), 20)
    if crashes:
        with pytest.raises(RuntimeError, match="has ended by itself"):
            await asyncio.wait_for(waiting, 20)
