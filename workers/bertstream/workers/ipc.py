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

from bertstream.workers.contract import (
    Batch,
    Cancel,
    Completed,
    Failure,
    Generate,
    Generated,
    GenerationOptions,
    HeadWish,
    Hello,
    Pooling,
    Result,
    Spans,
    Wishes,
    Work,
)

Message = Work | Generate | Cancel | Hello | Result | Generated | Completed | Failure
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
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
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
    batch, spans = work.batch, work.batch.spans
    arrays: Arrays = {"ids": batch.ids, "lengths": batch.lengths}
    if batch.type_ids is not None:
        arrays["type_ids"] = batch.type_ids
    if spans is not None:
        arrays |= {"span_counts": spans.counts, "span_starts": spans.starts, "span_lengths": spans.lengths}
        if spans.ids is not None:
            arrays["span_ids"] = spans.ids
    fields = [work.id, asdict(work.wishes), work.priority, work.deadline, work.alone, work.session, work.final]
    return "work", fields, arrays


def _decode_work(fields: Any, arrays: Arrays) -> Work:
    work_id, wishes, *rest = fields
    spans = None
    if "span_counts" in arrays:
        counts, starts, lengths = (arrays[f"span_{name}"] for name in ("counts", "starts", "lengths"))
        spans = Spans(counts, starts, lengths, arrays.get("span_ids"))
    batch = Batch(arrays["ids"], arrays["lengths"], arrays.get("type_ids"), spans)
    return Work(work_id, batch, _decode_wishes(wishes), *rest)


def _decode_wishes(values: Any) -> Wishes:
    plain = _with_tuples(values)
    pooling, head = plain.pop("pooling"), plain.pop("head")
    return Wishes(
        pooling=None if pooling is None else Pooling(**pooling),
        head=None if head is None else HeadWish(**head),
        **plain,
    )


def _encode_generate(generate: Generate) -> tuple[str, Any, Arrays]:
    arrays: Arrays = {"ids": generate.ids}
    if generate.type_ids is not None:
        arrays["type_ids"] = generate.type_ids
    fields = [generate.id, asdict(generate.options), generate.priority, generate.deadline, generate.alone]
    return "generate", fields, arrays


def _decode_generate(fields: Any, arrays: Arrays) -> Generate:
    number, options, *rest = fields
    return Generate(number, arrays["ids"], GenerationOptions(**_with_tuples(options)), arrays.get("type_ids"), *rest)


def _encode_generated(generated: Generated) -> tuple[str, Any, Arrays]:
    columns = ("works", "sequences", "tokens", "scores")
    return "generated", [], {name: getattr(generated, name) for name in columns}


def _encode_completed(completed: Completed) -> tuple[str, Any, Arrays]:
    columns = ("lengths", "tokens", "token_scores", "scores")
    fields = [completed.id, completed.reasons, completed.queue_seconds, completed.compute_seconds]
    return "completed", fields, {name: getattr(completed, name) for name in columns}


def _decode_completed(fields: Any, arrays: Arrays) -> Completed:
    number, reasons, queue_seconds, compute_seconds = fields
    return Completed(
        id=number, reasons=tuple(reasons), queue_seconds=queue_seconds, compute_seconds=compute_seconds, **arrays
    )


def _encode_result(result: Result) -> tuple[str, Any, Arrays]:
    return "result", [result.id, result.queue_seconds, result.compute_seconds], result.tensors


def _decode_result(fields: Any, arrays: Arrays) -> Result:
    return Result(fields[0], arrays, fields[1], fields[2])


def _with_tuples(value: Any) -> Any:
    """JSON has no tuples."""
    if isinstance(value, dict):
        return {name: _with_tuples(each) for name, each in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


_ENCODERS: dict[type, Callable[[Any], tuple[str, Any, Arrays]]] = {
    Work: _encode_work,
    Generate: _encode_generate,
    Result: _encode_result,
    Generated: _encode_generated,
    Completed: _encode_completed,
    Cancel: lambda cancel: ("cancel", [cancel.ids, cancel.sessions], {}),
    Hello: lambda hello: ("hello", asdict(hello), {}),
    Failure: lambda failure: ("failure", asdict(failure), {}),
}
_DECODERS: dict[str, Callable[[Any, Arrays], Message]] = {
    "work": _decode_work,
    "generate": _decode_generate,
    "result": _decode_result,
    "generated": lambda _, arrays: Generated(**arrays),
    "completed": _decode_completed,
    "cancel": lambda fields, _: Cancel(*map(tuple, fields)),
    "hello": lambda fields, _: Hello(**fields),
    "failure": lambda fields, _: Failure(**fields),
}
