"""Messages that callers have compressed by gzip, inflated no further than a message may be long.

gRPC's core would inflate them up to the transport's limit, or in older versions without any, before we see them: a
thousandth of that on the wire is enough (docs/decisions/0023-compressed-messages.md).
"""

from __future__ import annotations

import zlib

from google.protobuf.message import DecodeError

# No serialized message begins so: it would be field 3 of a wire type that there is not.
_GZIP = b"\x1f\x8b"


class TooLong(Exception):
    """Inflated, the message would be longer than it may be."""


def inflated(raw: bytes, max_bytes: int) -> bytes:
    """Return the message as it was before it was compressed, if it was. Raises TooLong and DecodeError."""
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
