"""Parses the messages of callers; a fault in one becomes an error that its handler answers with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from bertstream.server.core.errors import RequestError, invalid, too_large
from bertstream.server.protocols.compression import TooLong, inflated
from bertstream.server.protocols.utf8 import BadString, blank_bad_strings

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Decoded(Generic[M]):
    """A parsed message, or the error to answer it with; its `bad_strings` were blanked."""

    message: M
    bad_strings: tuple[BadString, ...] = ()
    error: RequestError | None = None
    wire_bytes: int = 0  # of the message as it came, before it was inflated

    def value(self) -> M:
        """Return the message, or raise its error."""
        if self.error is not None:
            raise self.error
        return self.message


def decoder(message_class: type[M], max_bytes: int) -> Callable[[bytes], Decoded[M]]:
    """Return a deserializer of messages of at most `max_bytes`, which never raises."""

    def decode(raw: bytes) -> Decoded[M]:
        size = len(raw)
        if size > max_bytes:
            return _too_long(message_class, f"{size} bytes", max_bytes, size)
        try:
            raw = inflated(raw, max_bytes)
            return Decoded(message_class.FromString(raw), wire_bytes=size)
        except TooLong:
            return _too_long(message_class, f"{size} bytes, and more when inflated", max_bytes, size)
        except DecodeError:
            return _decode_again(message_class, raw, size)

    return decode


def _too_long(message_class: type[M], about: str, max_bytes: int, size: int) -> Decoded[M]:
    error = too_large("", f"the message has {about}; the limit is {max_bytes} bytes: send less at a time")
    return Decoded(message_class(), error=error, wire_bytes=size)


def _decode_again(message_class: type[M], raw: bytes, size: int) -> Decoded[M]:
    try:
        blanked, bad = blank_bad_strings(raw, cast(Descriptor, message_class.DESCRIPTOR))
        return Decoded(message_class.FromString(blanked), bad_strings=tuple(bad), wire_bytes=size)
    except DecodeError:
        error = invalid("", "the bytes are not a message of this type", "MALFORMED_MESSAGE")
        return Decoded(message_class(), error=error, wire_bytes=size)
