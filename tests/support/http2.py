"""Speak HTTP/2 by hand, as far as pings and the end of connections go (RFC 9113)."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _PING, _GOAWAY, _ACK = 4, 6, 7, 1
ENHANCE_YOUR_CALM = 11


@dataclass
class Pinged:
    """Hold what a server said to pings."""

    answers: int = 0
    goaway: list[int] = field(default_factory=list)  # error codes


async def ping(address: str, times: int, seconds: float) -> Pinged:
    """Open a connection without any call, and ping `times` times, `seconds` apart."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    said = Pinged()
    listening = asyncio.create_task(_listen(reader, writer, said))
    writer.write(_PREFACE + _frame(_SETTINGS, 0))
    for number in range(times):
        await asyncio.sleep(seconds)
        if not said.goaway:
            writer.write(_frame(_PING, 0, struct.pack(">Q", number)))
    await asyncio.sleep(0.2)
    listening.cancel()
    writer.close()
    return said


async def wait_for_goaway(address: str, seconds: float) -> Pinged:
    """Open a connection without any call, and listen until the server ends it."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    said = Pinged()
    writer.write(_PREFACE + _frame(_SETTINGS, 0))
    async with asyncio.timeout(seconds):
        await _listen(reader, writer, said)
    writer.close()
    return said


def _frame(kind: int, flags: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4) + payload


async def _listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: Pinged) -> None:
    while True:
        try:
            header = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(header[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        kind, flags = header[3], header[4]
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK))
        elif kind == _PING and flags & _ACK:
            said.answers += 1
        elif kind == _PING:
            writer.write(_frame(_PING, _ACK, payload))
        elif kind == _GOAWAY:
            said.goaway.append(int.from_bytes(payload[4:8], "big"))
