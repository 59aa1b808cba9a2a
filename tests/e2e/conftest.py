"""Clients of the shared server, and the server of other APIs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bertstream.client import Client
from tests.support.other_apis import ServedApis, served_apis
from tests.support.server import Server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as opened:
        yield opened


@pytest.fixture(scope="session")
def other_apis(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedApis]:
    """Yield the one server on which the APIs of others are tested, by gRPC and by HTTP."""
    with served_apis(checkpoint, compile_cache, tmp_path_factory.mktemp("apis")) as served:
        yield served
