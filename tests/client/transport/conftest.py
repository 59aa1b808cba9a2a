"""Two servers, for clients of several."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.fake_server import FakeServer


@pytest.fixture
def servers() -> Iterator[tuple[FakeServer, FakeServer]]:
    """Yield two of the same models."""
    both = FakeServer(), FakeServer()
    yield both
    for each in both:
        each.close()
