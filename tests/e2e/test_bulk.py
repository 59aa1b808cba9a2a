"""Bulk encoding: a corpus goes through in order, none lost, none twice, in constant memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from bertstream.client import AsyncClient, Client, Progress
from tests.support.reference import close
from tests.support.server import Server, running

TEXTS = 50_000
MIB = 1 << 20


@pytest.fixture(scope="module")
def bulk(checkpoint: Callable[[str], Path], compile_cache: Path) -> Iterator[Server]:
    """Yield a server that only these tests use, so that its memory is theirs."""
    with running([f"tiny={checkpoint('bert')}"], "--workers", "1", cache=compile_cache) as server:
        yield server


def corpus(count: int) -> Iterator[str]:
    for number in range(count):
        yield f"fox {number} " + "dog " * (number % 7)


@pytest.mark.slow
def test_fifty_thousand_texts_with_flat_memory(bulk: Server) -> None:
    mine = psutil.Process()
    with Client(bulk.address) as client:
        for batch in client.encode_stream(corpus(5_000)):  # fills pools and caches
            assert not batch.errors
        gc.collect()
        before = mine.memory_info().rss, bulk.memory()
        seen, told = 0, list[Progress]()
        for batch in client.encode_stream(corpus(TEXTS), batch_size=128, progress=told.append):
            assert batch.ids.tolist() == list(range(seen, seen + batch.ids.size))
            assert batch.vectors.shape == (batch.ids.size, 36)
            seen += batch.ids.size
        gc.collect()
        after = mine.memory_info().rss, bulk.memory()
        sample = client.encode(list(corpus(200)))
    assert seen == TEXTS
    assert told[-1].texts == TEXTS
    # What it takes to hold 50,000 texts and vectors is above 12 MB on each side; pools of allocators move by less.
    assert after[0] - before[0] < 8 * MIB
    assert after[1] - before[1] < 24 * MIB
    assert sample.shape == (200, 36)


def test_answers_as_they_are_ready(bulk: Server) -> None:
    with Client(bulk.address) as client:
        expected = client.encode(list(corpus(3_000)))
        batches = list(client.encode_stream(corpus(3_000), ordered=False))
    ids = np.concatenate([batch.ids for batch in batches])
    assert sorted(ids.tolist()) == list(range(3_000))
    np.testing.assert_allclose(np.concatenate([batch.vectors for batch in batches]), expected[ids], atol=1e-5)


async def test_several_asynchronous_streams_at_once(bulk: Server) -> None:
    import asyncio

    async def run(client: AsyncClient, count: int) -> int:
        return sum([batch.ids.size async for batch in client.encode_stream(corpus(count))])

    async with AsyncClient(bulk.address) as client:
        assert await asyncio.gather(*(run(client, 200 * n) for n in range(1, 6))) == [200, 400, 600, 800, 1000]


def test_tokenize_stream(bulk: Server) -> None:
    with Client(bulk.address) as client:
        rows = [row for batch in client.tokenize_stream(corpus(2_000)) for row in batch.tokens]
        expected = client.tokenize(list(corpus(2_000)))
    assert [row.token_ids.tolist() for row in rows] == [row.token_ids.tolist() for row in expected]


def test_token_states_of_long_texts_come_in_parts(server: Server) -> None:
    """Expect several messages: 512 tokens of 384 float32 are 768 KiB, and five layers of these are too much for one."""
    texts = ["fox " * 600, "fox", "dog " * 600]
    with Client(server.address) as client:
        rows = client.forward(texts, ["last_hidden_state", "pooled"], max_length=512)
        alone = [client.forward([text], ["last_hidden_state"], max_length=512)[0] for text in texts]
    assert [row.token_count for row in rows] == [512, 3, 512]
    for row, other in zip(rows, alone, strict=True):
        close(row.last_hidden_state, other.last_hidden_state, 1e-5)
