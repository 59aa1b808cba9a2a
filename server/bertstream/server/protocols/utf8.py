"""Finds the strings of a serialized message that are not UTF-8, to name them to the caller and still serve the others.

Protobuf refuses such a message as a whole. This walks the wire format (https://protobuf.dev/programming-guides/encoding)
along the message's descriptor and overwrites each bad string with as many spaces, so that the rest can be parsed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

_VARINT, _FIXED64, _LENGTH, _GROUP, _GROUP_END, _FIXED32 = range(6)
_DEEPEST = 100  # groups within groups, as protobuf takes them
MAX_FIELDS = 1 << 16  # that are checked, in some 0.1 s; a message with more is refused as a whole


@dataclass(frozen=True, slots=True)
class BadString:
    """A string field's value that is not UTF-8."""

    path: str  # such as "inputs.texts.texts"
    index: int  # among the values of a repeated field


def blank_bad_strings(raw: bytes, descriptor: Descriptor) -> tuple[bytes, list[BadString]]:
    """Return the message with each bad string blanked, and the list of those strings.

    Raises DecodeError if the message is malformed in another way.
    """
    data = bytearray(raw)
    bad = list(_walk(data, 0, len(data), descriptor, "", Counter()))
    return bytes(data), bad


def _walk(
    data: bytearray, position: int, end: int, descriptor: Descriptor, prefix: str, counts: Counter[str]
) -> Iterator[BadString]:
    """Blank and yield the bad strings of a message between two positions.

    `counts` has the number of values so far by path, since a message that comes in several parts is merged, and its
    lists are joined; the empty path counts all fields.
    """
    while position < end:
        tag, position = _varint(data, position, end)
        counts[""] += 1
        if counts[""] > MAX_FIELDS:
            raise DecodeError("too many fields")
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _GROUP:  # which no message of ours has, and protobuf takes as an unknown field
            position = _skip_group(data, position, end, number, counts)
            continue
        if wire_type != _LENGTH:
            position = _skip(data, position, end, wire_type)
            continue
        size, position = _varint(data, position, end)
        if position + size > end:
            raise DecodeError("a field ends beyond its message")
        field = descriptor.fields_by_number.get(number)
        if field is not None:
            yield from _check(data, position, position + size, field, prefix, counts)
        position += size


def _check(
    data: bytearray, start: int, end: int, field: FieldDescriptor, prefix: str, counts: Counter[str]
) -> Iterator[BadString]:
    path = prefix + field.name
    if field.message_type is not None:
        yield from _walk(data, start, end, field.message_type, f"{path}.", counts)
    elif field.type == FieldDescriptor.TYPE_STRING:
        try:
            data[start:end].decode()
        except UnicodeDecodeError:
            data[start:end] = b" " * (end - start)
            yield BadString(path, counts[path])
        counts[path] += 1


def _skip(data: bytearray, position: int, end: int, wire_type: int) -> int:
    if wire_type == _VARINT:
        return _varint(data, position, end)[1]
    if wire_type not in (_FIXED64, _FIXED32):
        raise DecodeError("an unknown wire type")
    return position + (8 if wire_type == _FIXED64 else 4)


def _skip_group(data: bytearray, position: int, end: int, number: int, counts: Counter[str]) -> int:
    open_groups = [number]
    while open_groups:
        tag, position = _varint(data, position, end)
        counts[""] += 1
        if counts[""] > MAX_FIELDS:
            raise DecodeError("too many fields")
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _GROUP and len(open_groups) < _DEEPEST:
            open_groups.append(number)
        elif wire_type == _GROUP_END and number == open_groups[-1]:
            open_groups.pop()
        elif wire_type == _LENGTH:
            size, position = _varint(data, position, end)
            position += size
        else:
            position = _skip(data, position, end, wire_type)
    return position


def _varint(data: bytearray, position: int, end: int) -> tuple[int, int]:
    value, shift = 0, 0
    while position < end and shift < 64:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise DecodeError("a truncated varint")
