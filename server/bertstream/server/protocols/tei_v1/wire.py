"""Write vectors into messages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bertstream.server.protocols.tei_v1 import tei_pb2

_TAG = bytes([tei_pb2.EmbedResponse.EMBEDDINGS_FIELD_NUMBER << 3 | 2])  # of a field with a length, in both messages


def write_floats(message: tei_pb2.EmbedResponse | tei_pb2.TokenEmbedding, values: NDArray[np.float32]) -> None:
    """Write a vector as `embeddings`: [d].

    Packed floats are the array's own bytes, and to merge them is a hundred times faster than a list of floats, which
    counts where there is a vector for each token.
    """
    raw = values.astype("<f4", copy=False).tobytes()
    message.MergeFromString(_TAG + _varint(len(raw)) + raw)


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes lengths (https://protobuf.dev/programming-guides/encoding)."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])
