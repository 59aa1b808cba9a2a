"""What a stream takes of its input at a time: as much as it has room for, or what a slow input gives in a moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from bertstream.client._transport.async_transport import pull_async
from bertstream.client._transport.sync_transport import pull


class Pulled:
    """Stands for a stream, and records what is added to it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.ended = False

    def add(self, texts: Iterable[str]) -> None:
        self.texts.extend(texts)

    def end(self) -> None:
        self.ended = True


async def given(texts: Iterable[str]) -> AsyncIterator[str]:
    for text in texts:
        yield text


async def pulled(kind: str, texts: Iterable[str], count: int) -> tuple[str, bool]:
    """Return what was pulled, and whether the input was found to have ended."""
    stream: Any = Pulled()
    if kind == "sync":
        pull(stream, iter(texts), count)
    else:
        await pull_async(stream, given(texts) if kind == "async" else iter(texts), count)
    return "".join(stream.texts), stream.ended


@pytest.mark.parametrize("kind", ["sync", "async", "sync in async"])
async def test_pulling(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    assert await pulled(kind, "abc", 2) == ("ab", False)
    assert await pulled(kind, "abc", 3) == ("abc", False)
    assert await pulled(kind, "abc", 4) == ("abc", True)
    assert await pulled(kind, "", 4) == ("", True)
    for module in ("sync", "async"):
        monkeypatch.setattr(f"bertstream.client._transport.{module}_transport.PULL_SECONDS", 0.0)
    assert await pulled(kind, "abc", 3) == ("a", False)
    assert await pulled(kind, "", 3) == ("", True)
