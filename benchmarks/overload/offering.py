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

from benchmarks.workloads import Workload
from bertstream.v1.encoding_pb2 import EncodeTextsRequest, EncodingOptions
from bertstream.v1.types_pb2 import TextBatch, Texts

ENCODE = "/bertstream.v1.EncodingService/EncodeTexts"
CHANNELS = 8
REFUSED = "RESOURCE_EXHAUSTED"
PUSHBACK = "grpc-retry-pushback-ms"


@dataclass(frozen=True, slots=True)
class Request:
    """A request with one text: its bytes, and the tokens of the text."""

    message: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when it was due, began and ended, in seconds since the start of a run, its status and its tokens."""

    due: float
    began: float
    ended: float
    status: str
    tokens: int = 0
    retry_seconds: float = 0.0  # after which the server has told a refused caller to try again

    @property
    def seconds(self) -> float:
        """How long the caller has waited, including a late start by this process."""
        return self.ended - self.due


def requests(workload: Workload, models: Sequence[str] = ("",)) -> Iterator[Request]:
    """Return an endless iterator of requests with one text each, for each model in turn."""
    each = zip(workload.texts, workload.tokens, itertools.cycle(models), strict=False)
    return itertools.cycle([Request(_message(text, model), tokens) for text, tokens, model in each])


def _retry_seconds(error: grpc.aio.AioRpcError) -> float:
    pushback = dict(error.trailing_metadata() or ()).get(PUSHBACK, b"0")
    return max(int(pushback), 0) / 1e3


def _message(text: str, model: str) -> bytes:
    texts = TextBatch(texts=Texts(texts=[text]))
    return EncodeTextsRequest(options=EncodingOptions(model=model), inputs=texts).SerializeToString()


class Callers:
    """Callers of one server, over several connections, with the same key where there is one."""

    def __init__(self, address: str, connections: int = CHANNELS, key: str = "") -> None:
        self._metadata = (("authorization", f"Bearer {key}"),) if key else None
        options = [[("benchmark.channel", number)] for number in range(connections)]
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

    async def call(self, request: Request, start: float, due: float, deadline: float | None) -> Call:
        """Make one call and return it; the deadline is in seconds from when it was due."""
        began = time.monotonic() - start
        left = None if deadline is None else max(due + deadline - began, 0.001)
        try:
            await next(self._rpcs)(request.message, timeout=left, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            ended, retry = time.monotonic() - start, _retry_seconds(error)
            return Call(due, began, ended, error.code().name, request.tokens, retry)
        return Call(due, began, time.monotonic() - start, "OK", request.tokens)

    async def offer(
        self, source: Iterator[Request], rate: float, seconds: float, deadline: float, generator: np.random.Generator
    ) -> list[Call]:
        """Make calls at random times with this rate per second, without waiting for earlier ones, and return them."""
        gaps = generator.exponential(1 / rate, int(rate * seconds))
        start, tasks = time.monotonic(), []
        for due in np.cumsum(gaps).tolist():
            if (ahead := start + due - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            tasks.append(asyncio.create_task(self.call(next(source), start, due, deadline)))
        return await asyncio.gather(*tasks)

    async def keep_busy(
        self, source: Iterator[Request], at_once: int, seconds: float, deadline: float | None = None
    ) -> list[Call]:
        """Keep `at_once` callers busy, each of which calls again as soon as it is answered, and return the calls.

        Who is refused waits as long as the server says, as clients do.
        """
        start, ended = time.monotonic(), []

        async def caller() -> None:
            while (now := time.monotonic() - start) < seconds:
                ended.append(call := await self.call(next(source), start, now, deadline))
                if call.retry_seconds:
                    await asyncio.sleep(call.retry_seconds)

        await asyncio.gather(*(caller() for _ in range(at_once)))
        return ended

    async def probe(self, source: Iterator[Request], gap: float, seconds: float) -> list[Call]:
        """Make single calls one after the other, as the only caller of an idle server would, and return them."""
        start, ended = time.monotonic(), []
        while (now := time.monotonic() - start) < seconds:
            ended.append(await self.call(next(source), start, now, None))
            await asyncio.sleep(gap)
        return ended
