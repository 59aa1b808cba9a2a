"""One AsyncClient in several event loops: one after the other, and at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bertstream.client import AsyncClient, Cancelled
from tests.client.fake_server import FakeServer


@pytest.fixture
def client(server: FakeServer) -> Iterator[AsyncClient]:
    made = AsyncClient(server.address, retries=1, channels=2)
    yield made
    asyncio.run(made.close())


async def _streamed(client: AsyncClient, count: int = 300) -> list[int]:
    return [id async for batch in client.encode_stream(["a"] * count) for id in batch.ids.tolist()]


async def _everything(client: AsyncClient) -> None:
    assert (await client.encode(["a", "b"])).shape[0] == 2
    assert await _streamed(client) == list(range(300))
    assert [piece async for piece in client.stream_generate("a")]
    assert len(await client.forward(["a"])) == 1
    assert (await client.health()).name == "SERVING"


def test_one_loop_after_the_other(client: AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        asyncio.run(_everything(client))
    assert caplog.records == []


def test_after_runs_that_were_broken_off(
    client: AsyncClient, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaking_off() -> None:
        stream = client.encode_stream(["a"] * 1000)
        await anext(stream)
        layers = client.stream_layers(["abc"])
        await anext(layers)
        server.does.stall = threading.Event()
        waiting = asyncio.ensure_future(client.encode("a"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        raise KeyError("enough")

    for _ in range(2):
        with pytest.raises(KeyError):
            asyncio.run(breaking_off())
        assert server.does.stall
        server.does.stall.set()
        server.does.stall = None
        asyncio.run(_everything(client))
    assert caplog.records == []


def test_a_loop_that_was_left_with_calls_under_way(client: AsyncClient, server: FakeServer) -> None:
    """A loop may end without the cleanup that asyncio.run does."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.encode("a"))
    server.does.stall = threading.Event()
    task = loop.create_task(client.encode("a"))
    loop.run_until_complete(asyncio.sleep(0.1))
    server.does.stall.set()
    server.does.stall = None
    asyncio.run(_everything(client))
    assert loop.run_until_complete(task).ndim == 1  # this loop has its own channels, and can go on
    loop.close()
    asyncio.run(_everything(client))


def test_two_loops_in_two_threads(client: AsyncClient) -> None:
    async def many() -> None:
        for _ in range(10):
            await asyncio.gather(*(_everything(client) for _ in range(4)))

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(asyncio.run, many()) for _ in range(2)]:
            done.result(timeout=200)


def test_closing_in_another_loop(server: FakeServer) -> None:
    client = AsyncClient(server.address)
    asyncio.run(_everything(client))
    asyncio.run(client.close())
    with pytest.raises(ValueError, match="closed"):
        asyncio.run(_everything(client))
    asyncio.run(client.close())


def test_closing_ends_the_calls_of_other_loops(server: FakeServer, client: AsyncClient) -> None:
    server.does.stall = threading.Event()

    async def waiting() -> None:
        with pytest.raises(Cancelled):
            await client.encode("a")

    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(asyncio.run, waiting())
        while not server.seen.rpcs["EncodeTexts"] and not done.done():
            time.sleep(0.01)
        asyncio.run(client.close())
        done.result(timeout=60)


def test_nothing_is_said_at_exit(server: FakeServer) -> None:
    """Nothing is logged about loops that were closed, or channels that were left open."""
    code = f"""
import asyncio
from bertstream.client import AsyncClient
client = AsyncClient({server.address!r})
async def used():
    stream = client.encode_stream(["a"] * 1000)
    await anext(stream)
    await client.encode("a")
for _ in range(3):
    asyncio.run(used())
print("done")
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr, run.returncode) == ("done\n", "", 0)
