"""A fake server for each test, and clients of both kinds with the same synchronous interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bertstream.client import AsyncClient, Client
from tests.client.fake_server import FakeServer


class AsyncInSync:
    """An AsyncClient with the methods of a Client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = AsyncClient(*args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        return self.streamed(method) if "stream" in name else self.awaited(method)

    def awaited(self, method: Any) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await method(*args, **kwargs)

        return lambda *args, **kwargs: self.runner.run(call(*args, **kwargs))

    def streamed(self, method: Any) -> Callable[..., Iterator[Any]]:
        def iterate(stream: Any) -> Iterator[Any]:
            async def following() -> Any:
                return await anext(stream, None)

            try:
                while (batch := self.runner.run(following())) is not None:
                    yield batch
            finally:
                self.runner.run(stream.aclose())

        return lambda *args, **kwargs: iterate(method(*args, **kwargs))

    def end(self) -> None:
        self.close()
        self.runner.close()


class SyncClient(Client):
    def end(self) -> None:
        self.close()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture(params=[SyncClient, AsyncInSync])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Make clients of one kind, and close them."""
    clients: list[Any] = []

    def make(*args: Any, **kwargs: Any) -> Any:
        clients.append(request.param(*args, **kwargs))
        return clients[-1]

    yield make
    for client in clients:
        client.end()


@pytest.fixture
def client(server: FakeServer, connect: Callable[..., Any]) -> Any:
    return connect(server.address, retries=1)
