"""Clients of the shared server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bertstream.client import Client
from tests.support.server import Server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as opened:
        yield opened
