"""Send a call of any path in raw HTTP/2 frames, as gRPC's clients send none."""

from __future__ import annotations

import socket
import struct

_DATA, _HEADERS, _SETTINGS = 0, 1, 4  # types of frames
_END_STREAM, _END_HEADERS = 1, 4  # flags
_EMPTY = bytes(5)  # a message of no bytes
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def called(port: int, path: bytes, **headers: bytes) -> bytes:
    """Call a path with an empty message, and return the bytes that come until a status is among them, or for 10 s."""
    usual = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"localhost"}
    given = {name.encode(): value for name, value in headers.items()}
    block = b"".join(
        _literal(*each) for each in {**usual, b"content-type": b"application/grpc", b"te": b"trailers", **given}.items()
    )
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, block))
        connection.sendall(_frame(_DATA, _END_STREAM, 1, _EMPTY))
        while b"grpc-status" not in answer and (more := connection.recv(1 << 16)):
            answer += more
    return answer


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a header field that is neither indexed nor compressed."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
