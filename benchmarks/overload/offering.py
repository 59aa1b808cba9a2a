"""Calls at a rate that does not depend on the answers, as from many independent callers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from bertstream.v1.encoding_pb2 import EncodeTextsRequest, EncodingOptions
from bertstream.v1.types_pb2 import TextBatch, Texts

ENCODE = "/bertstream.v1.EncodingService/EncodeTexts"
CHANNELS = 8
REFUSED = "RESOURCE_EXHAUSTED"


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when it was due, began and ended, in seconds since the start of a run, and its status."""

    due: float
    began: float
    ended: float
    status: str

    @property
    def seconds(self) -> float:
        """How long the caller has waited, including a late start by this process."""
        return self.ended - self.due


def requests(texts: Sequence[str], models: Sequence[str] = ("",)) -> Iterator[bytes]:
    """Return an endless iterator of requests with one text each, for each model in turn."""
    made = [
        EncodeTextsRequest(
            options=EncodingOptions(model=model), inputs=TextBatch(texts=Texts(texts=[text]))
        ).SerializeToString()
        for text, model in zip(texts, itertools.cycle(models), strict=False)
    ]
    return itertools.cycle(made)


class Callers:
    """Callers of one server, over several connections."""

    def __init__(self, address: str) -> None:
        options = [[("benchmark.channel", number)] for number in range(CHANNELS)]
        self._channels = [grpc.aio.insecure_channel(address, each) for each in options]
        # Bytes in and out, so that only the server's work is measured.
        rpcs = [channel.unary_unary(ENCODE, bytes, bytes) for channel in self._channels]
        self._rpcs: Iterator[Callable[..., Awaitable[Any]]] = itertools.cycle(rpcs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def call(self, request: bytes, start: float, due: float, deadline: float | None) -> Call:
        """Make one call and return it; the deadline is in seconds from when it was due."""
        began = time.monotonic() - start
        left = None if deadline is None else max(due + deadline - began, 0.001)
        try:
            await next(self._rpcs)(request, timeout=left)
        except grpc.aio.AioRpcError as error:
            return Call(due, began, time.monotonic() - start, error.code().name)
        return Call(due, began, time.monotonic() - start, "OK")

    async def offer(
        self, source: Iterator[bytes], rate: float, seconds: float, deadline: float, generator: np.random.Generator
    ) -> list[Call]:
        """Make calls at random times with this rate per second, without waiting for earlier ones, and return them."""
        gaps = generator.exponential(1 / rate, int(rate * seconds))
        start, tasks = time.monotonic(), []
        for due in np.cumsum(gaps).tolist():
            if (ahead := start + due - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            tasks.append(asyncio.create_task(self.call(next(source), start, due, deadline)))
        return await asyncio.gather(*tasks)

    async def keep_busy(self, source: Iterator[bytes], at_once: int, seconds: float) -> list[Call]:
        """Keep `at_once` callers busy, each of which calls again as soon as it is answered, and return the calls."""
        start, ended = time.monotonic(), []

        async def caller() -> None:
            while (now := time.monotonic() - start) < seconds:
                ended.append(await self.call(next(source), start, now, None))

        await asyncio.gather(*(caller() for _ in range(at_once)))
        return ended

    async def probe(self, source: Iterator[bytes], gap: float, seconds: float) -> list[Call]:
        """Make single calls one after the other, as the only caller of an idle server would, and return them."""
        start, ended = time.monotonic(), []
        while (now := time.monotonic() - start) < seconds:
            ended.append(await self.call(next(source), start, now, None))
            await asyncio.sleep(gap)
        return ended
