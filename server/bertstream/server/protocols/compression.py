"""Inflates messages that callers have compressed by gzip, up to the limit of a message.

gRPC's core would inflate them up to the transport's limit, or in older versions without any limit, before we see them,
and a small message could fill the memory (docs/decisions/0023-compressed-messages.md).
"""

from __future__ import annotations

import zlib

from google.protobuf.message import DecodeError

# No serialized message begins with these bytes: they would be field 3 with a wire type that does not exist.
_GZIP = b"\x1f\x8b"


class TooLong(Exception):
    """Inflated, the message would be longer than it may be."""


def inflated(raw: bytes, max_bytes: int) -> bytes:
    """Return the message, inflated if it was compressed. Raises TooLong and DecodeError."""
    if not raw.startswith(_GZIP):
        return raw
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)  # gzip's header and checksum
    try:
        message = stream.decompress(raw, max_bytes + 1)
    except zlib.error as error:
        raise DecodeError(str(error)) from None
    if len(message) > max_bytes:
        raise TooLong
    if not stream.eof or stream.unused_data:
        raise DecodeError("not one whole stream of gzip")
    return message
