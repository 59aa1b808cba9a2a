"""What clients that mean harm do on a connection, by name: each goes on until its time is over or it is thrown out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import struct
import time
from collections.abc import Awaitable, Callable

from bertstream.v1 import encoding_pb2, types_pb2
from tests.support import http2
from tests.support.http2 import CONTINUATION, DATA, END_HEADERS, HEADERS, OPENING, PING, RST_STREAM, WINDOW_UPDATE

Attack = Callable[[str, float], Awaitable[None]]

ENCODE = "/bertstream.v1.EncodingService/EncodeTexts"
_BURST = 200  # frames at once


async def random_bytes(address: str, until: float) -> None:
    """Send what is no HTTP/2 at all, on one connection after another."""
    while time.monotonic() < until:
        async with http2.connected(address, os.urandom(4096)):
            await asyncio.sleep(0.01)


async def random_frames(address: str, until: float) -> None:
    """Send an opening as it should be, and behind it noise."""
    while time.monotonic() < until:
        async with http2.connected(address, OPENING + os.urandom(4096)):
            await asyncio.sleep(0.01)


async def half_open(address: str, until: float) -> None:
    """Connect, and say nothing."""
    await _keep(address, b"", until)


async def half_opening(address: str, until: float) -> None:
    """Stop within the opening."""
    await _keep(address, OPENING[:10], until)


async def slow_headers(address: str, until: float) -> None:
    """Send the headers of a call byte by byte."""
    block = http2.frame(HEADERS, END_HEADERS, 1, http2.call_headers(ENCODE))
    async with http2.connected(address, OPENING) as connection:
        for position in itertools.cycle(range(len(block) - 1)):
            if time.monotonic() > until or not connection.open:
                return
            await connection.send(block[position : position + 1])
            await asyncio.sleep(0.1)


async def pings(address: str, until: float) -> None:
    """Ping without pause."""
    await _flood(address, until, lambda number: http2.frame(PING, payload=struct.pack(">Q", number)))


async def settings(address: str, until: float) -> None:
    """Change settings without pause, each of which has to be acknowledged."""
    await _flood(address, until, lambda number: http2.settings({http2.INITIAL_WINDOW_SIZE: 65535 - number % 2}))


async def rapid_reset(address: str, until: float) -> None:
    """Begin calls and cancel them at once (CVE-2023-44487)."""
    block = http2.call_headers(ENCODE)

    def begun_and_cancelled(number: int) -> bytes:
        stream = 2 * number + 1
        reset = http2.frame(RST_STREAM, stream=stream, payload=struct.pack(">I", http2.CANCEL))
        return http2.frame(HEADERS, END_HEADERS, stream, block) + reset

    await _flood(address, until, begun_and_cancelled)


async def continuations(address: str, until: float) -> None:
    """Send headers that never end (CVE-2024-27316)."""
    part = http2.header_block({"x-more": "a" * 1000})
    begin = http2.frame(HEADERS, 0, 1, http2.call_headers(ENCODE))
    await _flood(address, until, lambda number: begin if number == 0 else http2.frame(CONTINUATION, 0, 1, part))


async def huge_headers(address: str, until: float) -> None:
    """Send calls with a header of a mebibyte."""
    block = http2.call_headers(ENCODE, **{"x-large": "a" * (1 << 20)})
    parts = [block[start : start + 16384] for start in range(0, len(block), 16384)]
    frames = [http2.frame(HEADERS, 0, 1, parts[0]), *(http2.frame(CONTINUATION, 0, 1, part) for part in parts[1:-1])]
    frames.append(http2.frame(CONTINUATION, END_HEADERS, 1, parts[-1]))
    while time.monotonic() < until:
        async with http2.connected(address, OPENING) as connection:
            await connection.send(*frames)
            await asyncio.sleep(0.05)


async def large_frames(address: str, until: float) -> None:
    """Announce frames that are larger than any may be."""
    header = b"\xff\xff\xff" + http2.frame(DATA, 0, 1)[3:]
    while time.monotonic() < until:
        async with http2.connected(address, OPENING + header + bytes(1 << 16)):
            await asyncio.sleep(0.01)


async def window_overflow(address: str, until: float) -> None:
    """Widen the window beyond what it can be."""
    update = http2.frame(WINDOW_UPDATE, payload=struct.pack(">I", (1 << 31) - 1))
    while time.monotonic() < until:
        async with http2.connected(address, OPENING + update * 3):
            await asyncio.sleep(0.01)


async def unread_answers(address: str, until: float) -> None:
    """Make calls whose answers must not be sent: the window for them is shut."""
    shut = http2.PREFACE + http2.settings({http2.INITIAL_WINDOW_SIZE: 0})
    inputs = types_pb2.TextBatch(texts=types_pb2.Texts(texts=["fox"]))
    message = encoding_pb2.EncodeTextsRequest(inputs=inputs).SerializeToString()
    body = b"\x00" + struct.pack(">I", len(message)) + message
    async with http2.connected(address, shut) as connection:
        for number in range(100):
            stream = 2 * number + 1
            head = http2.frame(HEADERS, END_HEADERS, stream, http2.call_headers(ENCODE))
            await connection.send(head, http2.frame(DATA, http2.END_STREAM, stream, body))
        while time.monotonic() < until and connection.open:  # noqa: ASYNC110 - nothing tells of time and end at once
            await asyncio.sleep(0.05)


ATTACKS: dict[str, Attack] = {
    attack.__name__.replace("_", " "): attack
    for attack in (
        *(random_bytes, random_frames, half_open, half_opening, slow_headers, pings, settings, rapid_reset),
        *(continuations, huge_headers, large_frames, window_overflow, unread_answers),
    )
}


async def attacked(address: str, attack: Attack, seconds: float, connections: int) -> None:
    """Have so many attack at once, for so long; who is thrown out comes again."""
    until = time.monotonic() + seconds

    async def again() -> None:
        while time.monotonic() < until:
            with contextlib.suppress(ConnectionError):
                await attack(address, until)
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(again())


async def _keep(address: str, first: bytes, until: float) -> None:
    async with http2.connected(address, first) as connection:
        while time.monotonic() < until and connection.open:  # noqa: ASYNC110 - nothing tells of time and end at once
            await asyncio.sleep(0.05)


async def _flood(address: str, until: float, frame: Callable[[int], bytes]) -> None:
    """Send frames by their numbers, without pause, until the server hangs up."""
    async with http2.connected(address, OPENING) as connection:
        numbers = itertools.count()
        while time.monotonic() < until and connection.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    await connection.send(*(frame(number) for number in itertools.islice(numbers, _BURST)))
            await asyncio.sleep(0)
