"""Thousands of small calls of all kinds leave the server's processes as they were; `make soak` does so for an hour."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bertstream.client import AsyncClient, BertstreamError
from tests.soak import sampling
from tests.soak.judging import Sample, judge
from tests.support.generation_checkpoints import tiny_causal
from tests.support.server import running

CALLS = 3600  # of six kinds
EACH = 150  # calls between samples
AT_ONCE = 16
MOST_BYTES_A_CALL = 2048.0  # beside the slack of an allocator, which is as much as 5,825 bytes in each of 2,160 calls


async def one(client: AsyncClient, number: int) -> None:
    """Make a call, some of which are refused and some are given up."""
    match number % 6:
        case 0:
            await client.encode([[5, 6 + number % 50]], model="bert")
        case 1:
            assert (
                len([row async for batch in client.encode_stream([[5, 6]] * 3, model="bert") for row in batch.ids]) == 3
            )
        case 2:
            await anext(stream := client.stream_layers([[5, 6]], model="bert"))
            await stream.aclose()
        case 3:
            assert len((await client.generate([[5, 6]], model="decoder", max_new_tokens=2))[0].token_ids) <= 2
        case 4:
            await anext(pieces := client.stream_generate([[5, 6]], model="decoder", max_new_tokens=50))
            await pieces.aclose()
        case _:
            with pytest.raises(BertstreamError):
                await client.encode(["fox"], model=f"nobody-{number}")


async def each_of(client: AsyncClient, numbers: Iterator[int]) -> None:
    for number in numbers:
        await one(client, number)


@pytest.mark.slow
async def test_many_calls_leave_nothing_behind(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path
) -> None:
    decoder = await asyncio.to_thread(tiny_causal, tmp_path / "decoder", "bert")
    models = [f"bert={checkpoint('bert')}", f"decoder={decoder}"]
    samples: list[Sample] = []
    with running(models, "--workers", "1", "--threads", "1", "--frontends", "1", cache=compile_cache) as server:
        began = time.monotonic()
        async with AsyncClient(server.address, timeout=120) as client:
            for done in range(0, CALLS + 1, EACH):
                samples += sampling.take(server, time.monotonic() - began, done)
                numbers = iter(range(done, done + EACH))
                await asyncio.gather(*(each_of(client, numbers) for _ in range(AT_ONCE)))
        assert [(each.process, each.fault) for each in judge(samples, MOST_BYTES_A_CALL) if each.fault] == []
    assert len({each.process for each in samples}) == 4
