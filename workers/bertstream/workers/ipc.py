"""Framed, columnar messages over Unix stream sockets, without pickle.

A frame is a prelude (magic, length of the header, length of the arrays), a JSON header that names the message's kind
and scalars and describes its arrays, and the arrays, each padded to 64 bytes so that it can be used in place.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from socket import socket
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.workers.contract import Batch, Cancel, Failure, Hello, Pooling, Result, Spans, Wishes, Work

Message = Work | Cancel | Hello | Result | Failure
Arrays = dict[str, NDArray[Any]]
Buffer = bytes | memoryview

MAGIC = b"BST1"
PRELUDE = struct.Struct("<4sIQ")
MAX_FRAME_BYTES = 1 << 31
_ALIGNMENT = 64
_MAX_BUFFERS = 512  # sendmsg refuses more than IOV_MAX, which is 1,024 on Linux


class ProtocolError(Exception):
    """The peer sent what is not a frame, or no message of ours."""


def encode(message: Message) -> list[Buffer]:
    """The buffers of one frame, none of them empty, the arrays not copied."""
    kind, fields, arrays = _ENCODERS[type(message)](message)
    header = json.dumps([kind, fields, [[name, a.dtype.str, a.shape] for name, a in arrays.items()]]).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    buffers: list[Buffer] = [header]
    for array in arrays.values():
        if array.size:
            buffers.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        if array.nbytes % _ALIGNMENT:
            buffers.append(bytes(-array.nbytes % _ALIGNMENT))
    payload = sum(len(buffer) for buffer in buffers[1:])
    return [PRELUDE.pack(MAGIC, len(header), payload), *buffers]


def frame_size(prelude: bytes | bytearray | memoryview) -> int:
    """The number of bytes that follow a prelude, at least 1. Raises ProtocolError."""
    magic, header, payload = PRELUDE.unpack(prelude)
    if magic != MAGIC or not header or header + payload > MAX_FRAME_BYTES:
        raise ProtocolError("not a frame")
    return int(header + payload)


def decode(prelude: bytes | bytearray | memoryview, body: bytearray) -> Message:
    """The message of one frame; its arrays are views of `body`. Raises ProtocolError."""
    header_size = PRELUDE.unpack(prelude)[1]
    try:
        kind, fields, specs = json.loads(bytes(body[:header_size]))
        return _DECODERS[kind](fields, dict(_arrays(memoryview(body)[header_size:], specs)))
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise ProtocolError(f"not a message: {type(error).__name__}") from error


def send(sock: socket, message: Message) -> None:
    """Writes one frame, all of it; blocks while the peer does not read."""
    pending = [memoryview(buffer) for buffer in encode(message)]
    while pending:
        sent = sock.sendmsg(pending[:_MAX_BUFFERS])
        while pending and sent >= len(pending[0]):
            sent -= len(pending.pop(0))
        if sent:
            pending[0] = pending[0][sent:]


def receive(sock: socket) -> Message | None:
    """Reads one frame; None when the peer has closed the connection between frames."""
    prelude = _read(sock, PRELUDE.size)
    if not prelude:
        return None
    if len(prelude) == PRELUDE.size:
        body = _read(sock, size := frame_size(prelude))
        if len(body) == size:
            return decode(prelude, body)
    raise ProtocolError("the connection closed within a frame")


def _read(sock: socket, size: int) -> bytearray:
    """So many bytes, or fewer where the peer closes the connection."""
    data = bytearray(size)
    view, read = memoryview(data), 0
    while read < size and (got := sock.recv_into(view[read:])):
        read += got
    return data if read == size else data[:read]


def _arrays(payload: memoryview, specs: Sequence[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    offset = 0
    for name, dtype, shape in specs:
        # Numbers only, since an object array would be pointers; and NumPy would take -1 for "the rest of the buffer".
        if np.dtype(dtype).kind not in "biuf" or any(size < 0 for size in shape):
            raise ValueError(dtype)
        array = np.ndarray(shape, np.dtype(dtype), payload, offset)
        offset += array.nbytes + -array.nbytes % _ALIGNMENT
        yield name, array


def _encode_work(work: Work) -> tuple[str, Any, Arrays]:
    batch = work.batch
    arrays: Arrays = {"ids": batch.ids, "lengths": batch.lengths}
    if batch.type_ids is not None:
        arrays["type_ids"] = batch.type_ids
    if batch.spans is not None:
        spans = batch.spans
        arrays |= {"span_counts": spans.counts, "span_starts": spans.starts, "span_lengths": spans.lengths}
    fields = [work.id, asdict(work.wishes), work.priority, work.deadline, work.alone, work.session, work.final]
    return "work", fields, arrays


def _decode_work(fields: Any, arrays: Arrays) -> Work:
    work_id, wishes, *rest = fields
    spans = None
    if "span_counts" in arrays:
        spans = Spans(arrays["span_counts"], arrays["span_starts"], arrays["span_lengths"])
    batch = Batch(arrays["ids"], arrays["lengths"], arrays.get("type_ids"), spans)
    return Work(work_id, batch, _decode_wishes(wishes), *rest)


def _decode_wishes(values: dict[str, Any]) -> Wishes:
    pooling = values.pop("pooling")
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if pooling is not None:
        plain["pooling"] = Pooling(**{**pooling, "layers": tuple(pooling["layers"])})
    return Wishes(**plain)


def _encode_result(result: Result) -> tuple[str, Any, Arrays]:
    return "result", [result.id, result.queue_seconds, result.compute_seconds], result.tensors


def _decode_result(fields: Any, arrays: Arrays) -> Result:
    return Result(fields[0], arrays, fields[1], fields[2])


_ENCODERS: dict[type, Callable[[Any], tuple[str, Any, Arrays]]] = {
    Work: _encode_work,
    Result: _encode_result,
    Cancel: lambda cancel: ("cancel", [cancel.ids, cancel.sessions], {}),
    Hello: lambda hello: ("hello", asdict(hello), {}),
    Failure: lambda failure: ("failure", asdict(failure), {}),
}
_DECODERS: dict[str, Callable[[Any, Arrays], Message]] = {
    "work": _decode_work,
    "result": _decode_result,
    "cancel": lambda fields, _: Cancel(*map(tuple, fields)),
    "hello": lambda fields, _: Hello(**fields),
    "failure": lambda fields, _: Failure(**fields),
}
