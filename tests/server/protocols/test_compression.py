from __future__ import annotations

import gzip
import zlib

import pytest
from google.protobuf.message import DecodeError

from bertstream.server.protocols.compression import TooLong, inflated
from bertstream.server.protocols.decoding import decoder
from bertstream.v1 import encoding_pb2, types_pb2

REQUEST = encoding_pb2.EncodeTextsRequest(inputs=types_pb2.TextBatch(texts=types_pb2.Texts(texts=["fox"] * 50)))
RAW = REQUEST.SerializeToString()


def compressed(raw: bytes, level: int = 9) -> bytes:
    """Compress without the time, since tests are named by these bytes, and names must not change by the second."""
    return gzip.compress(raw, level, mtime=0)


@pytest.mark.parametrize("raw", [b"", b"\x1f", RAW, zlib.compress(RAW)])
def test_what_is_not_gzip_is_as_it_came(raw: bytes) -> None:
    assert inflated(raw, 1) is raw


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("raw", [b"", RAW])
def test_gzip_is_inflated_up_to_the_bound(raw: bytes, level: int) -> None:
    assert inflated(compressed(raw, level), len(raw)) == raw


@pytest.mark.parametrize("bound", [0, 1, len(RAW) - 1])
def test_and_not_beyond(bound: int) -> None:
    with pytest.raises(TooLong):
        inflated(compressed(RAW), bound)


@pytest.mark.parametrize("raw", [compressed(RAW)[:-1], compressed(RAW) + b"x", compressed(RAW) * 2, b"\x1f\x8b" + RAW])
def test_what_is_not_one_whole_stream_is_no_message(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        inflated(raw, 10_000)


def test_a_message_is_decoded_from_gzip_as_without() -> None:
    decode = decoder(encoding_pb2.EncodeTextsRequest, 1000)
    assert decode(compressed(RAW)).value() == REQUEST
    bad = decode(compressed(RAW.replace(b"fox", b"\xff\xff\xff", 1)))
    assert [each.path for each in bad.bad_strings] == ["inputs.texts.texts"]


@pytest.mark.parametrize(
    ("raw", "reason", "words"),
    [
        (compressed(bytes(1001)), "REQUEST_TOO_LARGE", "and more when inflated; the limit is 1000 bytes"),
        (compressed(RAW)[:-1], "MALFORMED_MESSAGE", "not a message of this type"),
        (compressed(b"\xff\xff"), "MALFORMED_MESSAGE", "not a message of this type"),
    ],
)
def test_bad_messages_have_their_errors(raw: bytes, reason: str, words: str) -> None:
    error = decoder(encoding_pb2.EncodeTextsRequest, 1000)(raw).error
    assert error is not None
    assert error.reason == reason
    assert words in error.message
