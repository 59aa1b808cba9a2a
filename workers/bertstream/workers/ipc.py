"""Send framed, columnar messages over Unix stream sockets, without pickle.

A frame is a prelude (magic, kind of message, length of the header, length of the arrays), the header, and the arrays,
each padded to 64 bytes so that it can be used in place. The header is the message as MessagePack, in which an array is
its type, its shape and where it starts. MessagePack has infinite numbers, which deadlines may be, and JSON has none.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from socket import MSG_DONTWAIT, socket
from typing import Any

import numpy as np
from msgspec import msgpack
from numpy.typing import NDArray

from bertstream.workers.contract import Cancel, Completed, Failure, Generate, Generated, Hello, Result, Work

Message = Work | Generate | Cancel | Hello | Result | Generated | Completed | Failure
Buffer = bytes | memoryview

MAGIC = b"BST2"
PRELUDE = struct.Struct("<4sIII")
# In the order of their numbers.
KINDS: tuple[type, ...] = (Work, Generate, Cancel, Hello, Result, Generated, Completed, Failure)
MAX_FRAME_BYTES = 1 << 31
_ALIGNMENT = 64
# Looked up, since np.dtype parses whatever it is given: numbers only, as an object array would be pointers.
_DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bBhHiIlLefd"}
_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
_MAX_BUFFERS = 512  # sendmsg refuses more than IOV_MAX, which is 1,024 on Linux


class ProtocolError(Exception):
    """The peer sent something that is not a frame, or not a message of ours."""


def encode(message: Message) -> list[Buffer]:
    """Return the buffers of one frame, none of them empty, the arrays not copied."""
    arrays: list[NDArray[Any]] = []
    payload = 0

    def place(value: Any) -> Any:
        """Replace an array by its description, and a NumPy number by Python's, since MessagePack has neither."""
        nonlocal payload
        if isinstance(value, np.generic):
            return value.item()
        if not isinstance(value, np.ndarray):
            raise TypeError(f"a message cannot have a {type(value).__name__}")
        arrays.append(value)
        start, payload = payload, payload + _padded(value.nbytes)
        return value.dtype.str, value.shape, start

    header = msgpack.encode(message, enc_hook=place)
    prelude = PRELUDE.pack(MAGIC, _NUMBERS[type(message)], len(header), payload)
    buffers: list[Buffer] = [prelude, header + bytes(-len(header) % _ALIGNMENT)]
    for array in arrays:
        if array.size:
            buffers.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        if array.nbytes % _ALIGNMENT:
            buffers.append(bytes(-array.nbytes % _ALIGNMENT))
    return buffers


def frame_size(prelude: bytes | bytearray | memoryview) -> int:
    """Return the number of bytes that follow a prelude, at least 1. Raises ProtocolError."""
    magic, kind, header, payload = PRELUDE.unpack(prelude)
    if magic != MAGIC or kind >= len(KINDS) or not header or _padded(header) + payload > MAX_FRAME_BYTES:
        raise ProtocolError("not a frame")
    return int(_padded(header) + payload)


def decode(prelude: bytes | bytearray | memoryview, body: bytearray) -> Message:
    """Return the message of one frame; its arrays are views of `body`. Raises ProtocolError."""
    _, kind, header, _ = PRELUDE.unpack(prelude)
    frame = memoryview(body)
    arrays = frame[_padded(header) :]

    def view(_: type, place: Any) -> NDArray[Any]:
        name, shape, start = place
        # NumPy would take a size of -1 for "the rest of the buffer", and a start of -1 for the byte before it.
        if min(start, *shape, 0) < 0:
            raise ValueError(f"an array of shape {shape} at {start}")
        return np.ndarray(shape, _DTYPES[name], arrays, start)

    try:
        message: Message = msgpack.decode(frame[:header], type=KINDS[kind], dec_hook=view)
        return message
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ProtocolError(f"not a message: {error}") from error


def send(sock: socket, message: Message) -> None:
    """Write one whole frame; this blocks while the peer does not read."""
    send_rest(sock, [memoryview(buffer) for buffer in encode(message)])


def send_rest(sock: socket, pending: list[memoryview]) -> None:
    """Write these buffers, which are taken off the list; this blocks while the peer does not read."""
    while pending:
        _take_off(pending, sock.sendmsg(pending[:_MAX_BUFFERS]))


def send_some(sock: socket, message: Message) -> list[memoryview]:
    """Write as much of one frame as the socket takes at once, and return the rest."""
    pending = [memoryview(buffer) for buffer in encode(message)]
    with suppress(BlockingIOError):
        _take_off(pending, sock.sendmsg(pending[:_MAX_BUFFERS], (), MSG_DONTWAIT))
    return pending


def _take_off(pending: list[memoryview], sent: int) -> None:
    """Take the bytes that were sent off the buffers that wait."""
    while pending and sent >= len(pending[0]):
        sent -= len(pending.pop(0))
    if sent:
        pending[0] = pending[0][sent:]


def receive(sock: socket) -> Message | None:
    """Read one frame; return None when the peer has closed the connection between frames."""
    prelude = _read(sock, PRELUDE.size)
    if not prelude:
        return None
    if len(prelude) == PRELUDE.size:
        body = _read(sock, size := frame_size(prelude))
        if len(body) == size:
            return decode(prelude, body)
    raise ProtocolError("the connection closed within a frame")


def _read(sock: socket, size: int) -> bytearray:
    """Return this many bytes, or fewer where the peer closes the connection."""
    data = bytearray(size)
    view, read = memoryview(data), 0
    while read < size and (got := sock.recv_into(view[read:])):
        read += got
    return data if read == size else data[:read]


def _padded(size: int) -> int:
    return size + -size % _ALIGNMENT
