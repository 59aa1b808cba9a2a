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

    def value(self) -> M:
        """Return the message, or raise its error."""
        if self.error is not None:
            raise self.error
        return self.message


def decoder(message_class: type[M], max_bytes: int) -> Callable[[bytes], Decoded[M]]:
    """Return a deserializer of messages of at most `max_bytes`, which never raises."""

    def decode(raw: bytes) -> Decoded[M]:
        if len(raw) > max_bytes:
            return _too_long(message_class, f"{len(raw)} bytes", max_bytes)
        try:
            raw = inflated(raw, max_bytes)
            return Decoded(message_class.FromString(raw))
        except TooLong:
            return _too_long(message_class, f"{len(raw)} bytes, and more when inflated", max_bytes)
        except DecodeError:
            return _decode_again(message_class, raw)

    return decode


def _too_long(message_class: type[M], size: str, max_bytes: int) -> Decoded[M]:
    error = too_large("", f"the message has {size}; the limit is {max_bytes} bytes: send less at a time")
    return Decoded(message_class(), error=error)


def _decode_again(message_class: type[M], raw: bytes) -> Decoded[M]:
    try:
        blanked, bad = blank_bad_strings(raw, cast(Descriptor, message_class.DESCRIPTOR))
        return Decoded(message_class.FromString(blanked), bad_strings=tuple(bad))
    except DecodeError:
        return Decoded(
            message_class(), error=invalid("", "the bytes are not a message of this type", "MALFORMED_MESSAGE")
        )
