from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertstream.server.protocols import utf8
from bertstream.server.protocols.utf8 import BadString, blank_bad_strings
from bertstream.v1 import encoding_pb2, types_pb2

Request = encoding_pb2.EncodeTextsRequest
DESCRIPTOR: Any = Request.DESCRIPTOR
MARK = "\x01MARK"  # stands where bytes that are not UTF-8 will
BAD = [b"\xff\xfe\xfd\xfc\xfb", b"\xc3(abc", b"\xed\xa0\x80ab", b"\xc0\x80abc", b"abcd\xe2"]


def descriptor(message: type[Message]) -> Descriptor:
    found: Any = message.DESCRIPTOR
    return found  # type: ignore[no-any-return]


def spoil(message: Message, bad: bytes = BAD[0]) -> bytes:
    assert len(bad) == len(MARK)
    return message.SerializeToString().replace(MARK.encode(), bad)


TEXT = st.one_of(st.just(MARK), st.text(alphabet="aé你😀 ", max_size=5))
TEXTS = st.lists(TEXT, max_size=8)
BATCHES = st.one_of(
    TEXTS.map(lambda texts: types_pb2.TextBatch(texts=types_pb2.Texts(texts=texts))),
    st.tuples(TEXTS, TEXTS).map(
        lambda both: types_pb2.TextBatch(pairs=types_pb2.TextPairs(first_texts=both[0], second_texts=both[1]))
    ),
    st.tuples(TEXTS, st.lists(st.integers(0, 5))).map(
        lambda both: types_pb2.TextBatch(word_lists=types_pb2.WordLists(words=both[0], word_counts=both[1]))
    ),
)
REQUESTS = st.builds(
    lambda model, prompt, outputs, length, inputs: Request(
        options=encoding_pb2.EncodingOptions(
            model=model, prompt=prompt, outputs=outputs, truncation=types_pb2.TruncationOptions(max_length=length)
        ),
        inputs=inputs,
    ),
    TEXT,
    TEXT,
    st.lists(st.integers(0, 9)),
    st.integers(-(2**31), 2**31 - 1),
    BATCHES,
)


def marked(message: Request) -> list[BadString]:
    found = [BadString(f"options.{name}", 0) for name in ("model", "prompt") if getattr(message.options, name) == MARK]
    kind = message.inputs.WhichOneof("content")
    lists: dict[str, Sequence[str]] = {
        "texts": ("texts",),
        "pairs": ("first_texts", "second_texts"),
        "word_lists": ("words",),
    }
    for name in lists[str(kind)]:
        values = getattr(getattr(message.inputs, str(kind)), name)
        found += [BadString(f"inputs.{kind}.{name}", i) for i, value in enumerate(values) if value == MARK]
    return found


@given(REQUESTS, st.sampled_from(BAD))
def test_exactly_the_bad_strings_are_named_and_the_rest_survives(message: Request, bad: bytes) -> None:
    blanked, found = blank_bad_strings(spoil(message, bad), descriptor(Request))
    assert found == marked(message)
    expected = message.SerializeToString().replace(MARK.encode(), b" " * len(MARK))
    assert Request.FromString(blanked) == Request.FromString(expected)


@given(st.binary(max_size=200))
@example(b"S\x00\x00T")  # a group, which protobuf takes as an unknown field
@example(b"S[\x08\x01\\\x12\x01aT")  # one within another
@example(b"SS")
@example(b"S\x5c")
@settings(max_examples=300)
def test_random_bytes_end_in_an_answer_or_a_decode_error(raw: bytes) -> None:
    try:
        blanked, _ = blank_bad_strings(raw, descriptor(Request))
    except DecodeError:
        with pytest.raises(DecodeError):
            Request.FromString(raw)
    else:
        assert len(blanked) == len(raw)


@given(REQUESTS, st.integers(0, 1000), st.binary(min_size=1, max_size=4))
@settings(max_examples=300)
def test_damaged_messages_too(message: Request, position: int, damage: bytes) -> None:
    raw = bytearray(spoil(message))
    position %= max(1, len(raw))
    raw[position : position + len(damage)] = damage
    try:
        blanked, found = blank_bad_strings(bytes(raw), descriptor(Request))
    except DecodeError:
        return
    try:
        Request.FromString(bytes(raw))
    except DecodeError:
        pass  # `blanked` may still be malformed in ways that blank_bad_strings does not check
    else:
        assert found == []
        assert blanked == raw


def test_parts_of_a_message_are_merged_as_protobuf_does() -> None:
    texts = [Request(inputs=types_pb2.TextBatch(texts=types_pb2.Texts(texts=t))) for t in (["a", "b"], [MARK, "d"])]
    raw = spoil(texts[0]) + spoil(texts[1])
    blanked, found = blank_bad_strings(raw, descriptor(Request))
    assert found == [BadString("inputs.texts.texts", 2)]
    assert list(Request.FromString(blanked).inputs.texts.texts) == ["a", "b", "     ", "d"]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a",  # a tag alone
        b"\x0a\xff",  # half a length
        b"\x0a\x05ab",  # longer than the message
        b"\xff" * 11,  # a varint without an end
        b"\x0b",  # a group
        b"\x12\x03\x0a\x0a\x0a",  # a part that ends beyond its message
        b"\x08" + b"\x80" * 10 + b"\x01",
    ],
)
def test_malformed_messages(raw: bytes) -> None:
    with pytest.raises(DecodeError):  # noqa: PT012 - either may find it
        blanked, _ = blank_bad_strings(raw, descriptor(Request))
        Request.FromString(blanked)


def test_unknown_fields_are_passed_over() -> None:
    unknown = b"\xf8\x07\x01" + b"\xf9\x07" + b"\x00" * 8 + b"\xfd\x07" + b"\x00" * 4 + b"\xfa\x07\x02\xff\xff"
    raw = unknown + spoil(Request(inputs=types_pb2.TextBatch(texts=types_pb2.Texts(texts=[MARK])))) + unknown
    blanked, found = blank_bad_strings(raw, descriptor(Request))
    assert found == [BadString("inputs.texts.texts", 0)]
    assert len(Request.FromString(blanked).inputs.texts.texts) == 1


def test_a_message_of_very_many_fields_does_not_hold_up_everything() -> None:
    texts = [""] * (utf8.MAX_FIELDS + 1) + [MARK]
    raw = spoil(Request(inputs=types_pb2.TextBatch(texts=types_pb2.Texts(texts=texts))))
    with pytest.raises(DecodeError, match="too many fields"):
        blank_bad_strings(raw, descriptor(Request))
