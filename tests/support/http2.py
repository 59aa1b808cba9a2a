"""HTTP/2 by hand, frame by frame, as clients that mean harm send it (RFC 9113), and headers (RFC 7541)."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 1
END_HEADERS = 4
INITIAL_WINDOW_SIZE = 4  # a setting
TRUE_BINARY = 0xFE03  # gRPC's own setting: whether bytes in headers may come as they are
CANCEL = 8  # an error code
ENHANCE_YOUR_CALM = 11


@dataclass
class Said:
    """What a server said on one connection."""

    answers: int = 0  # to pings
    goaway: list[int] = field(default_factory=list)  # error codes
    headers: bytes = b""  # and trailers, of all calls, as they came
    done: int = 0  # calls that have ended
    ended: bool = False


class Connection:
    """A connection on which anything can be sent. What a client owes the server is answered, such as pings."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.said = Said()
        self._reader, self._writer = reader, writer

    @property
    def open(self) -> bool:
        """Whether the server still listens, as far as is known."""
        return not (self.said.ended or self._writer.is_closing())

    async def send(self, *frames: bytes) -> None:
        """Send bytes, waiting while the server takes none. Nothing where it has hung up."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(b"".join(frames))
            await self._writer.drain()

    async def listen(self) -> None:
        """Take what the server says until it hangs up."""
        try:
            while True:
                header = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(header[:3], "big"))
                self._heard(header[3], header[4], payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.said.ended = True

    def _heard(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._writer.write(frame(SETTINGS, ACK))
        elif kind == PING and flags & ACK:
            self.said.answers += 1
        elif kind == PING:
            self._writer.write(frame(PING, ACK, payload=payload))
        elif kind == HEADERS:
            self.said.headers += payload
            self.said.done += bool(flags & END_STREAM)
        elif kind == GOAWAY:
            self.said.goaway.append(int.from_bytes(payload[4:8], "big"))


@contextlib.asynccontextmanager
async def connected(address: str, first: bytes = b"") -> AsyncIterator[Connection]:
    """Open a connection, send the `first` bytes, and listen meanwhile."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = Connection(reader, writer)
    listening = asyncio.create_task(connection.listen())
    try:
        await connection.send(first)
        yield connection
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
        writer.transport.abort()


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(values: Mapping[int, int] | None = None) -> bytes:
    """Return a frame of settings, by their numbers."""
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *each) for each in (values or {}).items()))


def header_block(headers: Mapping[str, str]) -> bytes:
    """Return headers as literals that are not indexed, which need no table."""
    return b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in headers.items())


def call_headers(path: str, **more: str) -> bytes:
    """Return the headers of a gRPC call."""
    pseudo = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "server"}
    return header_block({**pseudo, "te": "trailers", "content-type": "application/grpc", **more})


OPENING = PREFACE + settings()


def _literal(text: str) -> bytes:
    """Return a string without Huffman's code, its length as an integer with a prefix of 7 bits.

    Lone surrogates from U+DC80 on stand for bytes that are no UTF-8, as in Python's `surrogateescape`.
    """
    raw = text.encode("utf-8", "surrogateescape")
    length = len(raw)
    if length < 127:
        return bytes([length]) + raw
    size, rest = b"\x7f", length - 127
    while rest >= 128:
        size, rest = size + bytes([rest % 128 + 128]), rest // 128
    return size + bytes([rest]) + raw


async def answered(address: str, path: str, message: bytes = b"", **headers: str) -> bytes:
    """Make a call of one message, and return the headers and trailers that come back, as they came.

    Raises TimeoutError.
    """
    opening = PREFACE + settings({TRUE_BINARY: 1})
    data = frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message)
    async with connected(address, opening) as connection, asyncio.timeout(60):
        await connection.send(frame(HEADERS, END_HEADERS, 1, call_headers(path, **headers)), data)
        while not connection.said.done:  # noqa: ASYNC110 - nothing tells of the end of a call
            await asyncio.sleep(0.01)
        return connection.said.headers


async def trailer(address: str, path: str, message: bytes, name: str) -> bytes:
    """Make a call of one message, and return the bytes of a trailer, also of one that gRPC's own clients keep back.

    Raises TimeoutError, and ValueError where there is no such trailer.
    """
    return _value_of(await answered(address, path, message), name.encode())


def _value_of(block: bytes, name: bytes) -> bytes:
    """Return the value behind a name, where neither is in Huffman's code, and bytes are marked by a zero."""
    place = block.index(name) + len(name)
    length, place, shift = block[place] & 0x7F, place + 1, 0
    if length == 127:
        while True:
            byte, place = block[place], place + 1
            length, shift = length + ((byte & 0x7F) << shift), shift + 7
            if byte < 0x80:
                break
    return block[place + 1 : place + length]


async def ping(address: str, times: int, seconds: float) -> Said:
    """Open a connection without any call, and ping so often, with so many seconds between, until all is answered."""
    async with connected(address, OPENING) as connection:
        said = connection.said
        for number in range(times):
            await asyncio.sleep(seconds)
            if not said.goaway:
                await connection.send(frame(PING, payload=struct.pack(">Q", number)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while said.answers < times and not said.goaway and connection.open:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        return said


async def wait_for_goaway(address: str, seconds: float) -> Said:
    """Open a connection without any call, and listen until the server ends it. Raises TimeoutError."""
    async with connected(address, OPENING) as connection, asyncio.timeout(seconds):
        while connection.open:  # noqa: ASYNC110 - nothing tells of time and end at once
            await asyncio.sleep(0.05)
        return connection.said
