from __future__ import annotations

import time

import numpy as np

from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.layout import Layout
from bertstream.server.core.tokenization import Tokenized
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.v1 import encoding_pb2, types_pb2

LENGTHS = np.array([2, 1, 3], np.int32)
TENSORS: dict[str, np.ndarray] = {
    "pooled": np.arange(12, dtype=np.float32).reshape(3, 4),
    "pooler_output": np.arange(12, dtype=np.float16).reshape(3, 4),
    "last_hidden_state": np.arange(24, dtype=np.int8).reshape(6, 4),
    "last_hidden_state.scales": np.arange(6, dtype=np.float32),
}


def array(tensor: types_pb2.Tensor, dtype: str) -> np.ndarray:
    return np.frombuffer(tensor.data, dtype).reshape(tuple(tensor.shape))


def test_some_texts_of_all_outputs() -> None:
    message = wire.encodings(encoding_pb2.Encodings(), TENSORS, Layout(LENGTHS), 1, 3)
    np.testing.assert_array_equal(array(message.pooled, "<f4"), TENSORS["pooled"][1:])
    np.testing.assert_array_equal(array(message.pooler_output, "<f2"), TENSORS["pooler_output"][1:])
    states = message.last_hidden_state
    np.testing.assert_array_equal(array(states.values, "<i1"), TENSORS["last_hidden_state"][2:])
    np.testing.assert_array_equal(np.frombuffer(states.values.scales, "<f4"), [2, 3, 4, 5])
    assert list(states.row_counts) == list(message.token_counts) == [1, 3]
    assert states.values.data_type == types_pb2.DATA_TYPE_INT8
    assert message.pooler_output.data_type == types_pb2.DATA_TYPE_FLOAT16


def test_what_was_not_asked_for_is_not_there() -> None:
    message = wire.encodings(encoding_pb2.Encodings(), {"pooled": TENSORS["pooled"]}, Layout(LENGTHS), 0, 3)
    assert not message.HasField("pooler_output")
    assert not message.HasField("last_hidden_state")


def test_bfloat16_is_called_so() -> None:
    message = wire.fill(types_pb2.Tensor(), np.zeros((2, 3), np.int16))
    assert message.data_type == types_pb2.DATA_TYPE_BFLOAT16
    assert len(message.data) == 12


def test_tokenizations_have_the_columns_that_there_are() -> None:
    plain = Tokenized(
        ids=np.array([5, 6, 7], np.int32),
        lengths=np.array([2, 1], np.int32),
        text_indexes=np.array([0, 0], np.int32),
        type_ids=None,
        truncated=np.array([False]),
        errors={},
    )
    message = wire.tokenizations(plain, windows=True)
    assert list(message.token_ids) == [5, 6, 7]
    assert list(message.token_type_ids) == [0, 0, 0]
    assert list(message.text_indexes) == [0, 0]
    assert not message.tokens
    assert not message.starts
    bare = wire.tokenizations(plain, type_ids=False)
    assert not bare.token_type_ids
    assert not bare.text_indexes


def test_times() -> None:
    message = wire.timings(0.25, 2.000000001)
    assert (message.tokenize.nanos, message.total.seconds, message.total.nanos) == (250_000_000, 2, 1)
    assert not message.HasField("queue")
    assert not message.HasField("compute")
    assert wire.timings(0, 0, 0.0, 1.5).compute.nanos == 500_000_000


def test_the_slowest_outcome_counts() -> None:
    outcomes = [Outcome(0, 1, {}, None, 0.25, 0.5), Outcome(1, 1, {}, None, 0.125, 0.75)]
    found = wire.timings_of(0.5, time.monotonic() - 2.0, outcomes)
    assert [found.tokenize.ToMilliseconds(), found.queue.ToMilliseconds(), found.compute.ToMilliseconds()] == [
        500,
        250,
        750,
    ]
    assert 2000 <= found.total.ToMilliseconds() < 60_000


def test_what_took_no_worker_has_no_time_there() -> None:
    found = wire.timings_of(0.5, time.monotonic(), [])
    assert not found.HasField("queue")
    assert not found.HasField("compute")
