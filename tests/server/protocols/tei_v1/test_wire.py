from __future__ import annotations

import numpy as np
import pytest

from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.wire import write_floats


@pytest.mark.parametrize("size", [0, 1, 31, 32, 4095, 4096, 1 << 20])
def test_floats_are_written_as_protobuf_writes_them(size: int) -> None:
    values = np.random.default_rng(size).standard_normal(size, np.float32)
    for kind in (tei_pb2.EmbedResponse, tei_pb2.TokenEmbedding):
        message = kind()
        write_floats(message, values)
        assert message == kind(embeddings=values.tolist())


def test_what_is_there_already_stays() -> None:
    message = tei_pb2.EmbedResponse(metadata=tei_pb2.Metadata(compute_tokens=7))
    write_floats(message, np.ones(3, np.float32))
    assert message == tei_pb2.EmbedResponse(embeddings=[1, 1, 1], metadata=tei_pb2.Metadata(compute_tokens=7))
