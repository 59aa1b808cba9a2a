"""Messages made from their descriptors: anything that the wire can carry, and, by what is likely, what callers send."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

Values = st.SearchStrategy[Any]
MAX_DEPTH = 6
_MOST_BYTES = 1 << 20
_UNKNOWN = (b"\xf8\x7f\x07", b"\xfa\x7f\x02hi", b"\xfb\x7f\xfc\x7f", b"\xfd\x7f1234", b"\x00")  # fields
_TIMES = st.sampled_from([70, 600])

INT32, INT64, UINT32, UINT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1), (0, 2**32 - 1), (0, 2**64 - 1)
ODD_TEXTS = (
    *("", " ", "\x00", "\n\r\t", "a\x00b", "\ufeff", "\u202e", "\ud7ff", "\uffff", "\U0010ffff", "é" * 50, "🚀🚀"),
    *("{", "{}", "{0}", "%s", "../..", "/etc/passwd", "[MASK]", "<mask>", "[CLS] [SEP]", "e\u0301\u0301", "x" * 30_000),
)


def _integers(bounds: tuple[int, int]) -> Values:
    low, high = bounds
    near = st.integers(max(low, -3), 20)
    return near | st.sampled_from([low, high, low + 1, high - 1, 512, 2**15, 2**16]) | st.integers(low, high)


WILD: Mapping[int, Values] = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: _integers(INT32),
    FieldDescriptor.CPPTYPE_INT64: _integers(INT64),
    FieldDescriptor.CPPTYPE_UINT32: _integers(UINT32),
    FieldDescriptor.CPPTYPE_UINT64: _integers(UINT64),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-1, 12) | st.sampled_from([99, *INT32]),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_STRING: st.sampled_from(ODD_TEXTS) | st.text(max_size=20),
}


@dataclass(frozen=True)
class Taste:
    """What goes into fields: by the full name of a field or of a message, or else by the kind of value."""

    kinds: Mapping[int, Values] = field(default_factory=lambda: WILD)
    named: Mapping[str, Values] = field(default_factory=dict)
    lists: Callable[[Values], Values] = lambda values: st.lists(values, max_size=4) | _many(values)
    always: frozenset[str] = frozenset()  # names of fields that are set in every message, and of oneofs


def _many(values: Values) -> Values:
    """One value, thousands of times, but of large ones fewer: the tests' own memory is not what is tried."""
    return st.builds(lambda value, times: [value] * min(times, _MOST_BYTES // _size(value)), values, _TIMES)


def _size(value: Any) -> int:
    return 1 + (value.ByteSize() if isinstance(value, Message) else sys.getsizeof(value))


ANYTHING = Taste()


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, taste: Taste = ANYTHING, depth: int = MAX_DEPTH) -> Message:
    """Return a message of this type; each field is set or not, and of a oneof at most one."""
    if descriptor.full_name in taste.named:
        named: Message = draw(taste.named[descriptor.full_name])
        return named
    message = GetMessageClass(descriptor)()
    for name, choice in _choices(descriptor):
        if name in taste.always or draw(st.booleans()):
            each = draw(st.sampled_from(choice))
            put(message, each, draw(values_of(each, taste, depth - 1)))
    return message


def _choices(descriptor: Descriptor) -> list[tuple[str, list[FieldDescriptor]]]:
    """Return the fields by name; those of which only one can be set are together, under the name of the oneof."""
    alone = [(each.name, [each]) for each in descriptor.fields if each.containing_oneof is None]
    return alone + [(oneof.name, list(oneof.fields)) for oneof in descriptor.oneofs]


def values_of(field: FieldDescriptor, taste: Taste, depth: int = MAX_DEPTH) -> Values:
    """Return what could be put into a field: a value, a list of them, or a dict."""
    if field.full_name in taste.named:
        return taste.named[field.full_name]
    if is_map(field):
        assert field.message_type is not None
        of = field.message_type.fields_by_name
        return st.dictionaries(values_of(of["key"], taste), values_of(of["value"], taste, depth), max_size=3)
    one = _one(field, taste, depth)
    return taste.lists(one) if field.is_repeated else one


def _one(field: FieldDescriptor, taste: Taste, depth: int) -> Values:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=40)
    if field.message_type is None:
        return taste.kinds[field.cpp_type]
    if depth <= 0:
        return st.just(GetMessageClass(field.message_type)())
    return messages(field.message_type, taste, depth)


def _put_map(target: Any, value: Mapping[Any, Any]) -> None:
    """Put a dict into a map, whose messages cannot be assigned."""
    for key, each in value.items():
        if isinstance(each, Message):
            target[key].CopyFrom(each)
        else:
            target[key] = each


def put(message: Message, field: FieldDescriptor, value: Any) -> None:
    """Set a field to a value, whatever its kind."""
    message.ClearField(field.name)
    if is_map(field):
        _put_map(getattr(message, field.name), value)
    elif field.is_repeated:
        getattr(message, field.name).extend(value)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)


def is_map(field: FieldDescriptor) -> bool:
    """Whether it is a map, which the descriptors show as a list of entries."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


@st.composite
def spoilt(draw: st.DrawFn, good: st.SearchStrategy[Message]) -> Message:
    """Return a good message with one field of it, or of a message within, set to anything or to nothing."""
    message = draw(good)
    spots = list(_spots(message))
    inner, each = spots[draw(st.integers(0, len(spots) - 1))] if spots else (message, None)
    if each is not None and draw(st.integers(0, 4)):
        put(inner, each, draw(values_of(each, ANYTHING, 2)))
    elif each is not None:
        inner.ClearField(each.name)
    return message


def _spots(message: Message) -> list[tuple[Message, Any]]:
    """Every field of it and of the messages that are set within."""
    spots: list[tuple[Message, Any]] = [(message, each) for each in message.DESCRIPTOR.fields]
    for each, value in message.ListFields():
        if each.message_type is not None and not is_map(each):
            for inner in value if each.is_repeated else [value]:
                spots += _spots(inner)
    return spots


@st.composite
def damaged(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    """Return a serialized message cut short, changed, with unknown fields, or with another one after it."""
    raw = bytearray(draw(good))
    match draw(st.integers(0, 4)):
        case 0:
            del raw[draw(st.integers(0, len(raw))) :]
        case 1 if raw:
            raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
        case 2 if raw:  # in a string, no UTF-8
            at = draw(st.integers(0, len(raw) - 1))
            raw[at : at + 2] = draw(st.sampled_from([b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88"]))
        case 3:  # of every wire type, the group's included
            raw += draw(
                st.sampled_from([b"\xf8\x7f\x07", b"\xfa\x7f\x02hi", b"\xfb\x7f\xfc\x7f", b"\xfd\x7f1234", b"\x00"])
            )
        case _:
            raw += draw(good)
    return bytes(raw)
