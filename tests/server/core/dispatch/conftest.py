from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.fake_worker import FakeWorker

MakeWorkers = Callable[[int], Awaitable[list[FakeWorker]]]


@pytest.fixture
async def make_workers(tmp_path: Path) -> AsyncIterator[MakeWorkers]:
    made: list[FakeWorker] = []

    async def make(count: int) -> list[FakeWorker]:
        for _ in range(count):
            worker = FakeWorker(tmp_path / f"{len(made)}.socket")
            await worker.start()
            made.append(worker)
        return made

    yield make
    for worker in made:
        await worker.close()
    await asyncio.sleep(0.01)
