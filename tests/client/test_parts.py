"""The small parts: tensors, cutting, progress, health, balance."""

from __future__ import annotations

import io

import numpy as np
import pytest

from bertstream.client import Health, Internal, Progress
from bertstream.client._calls.health import check_request, check_response
from bertstream.client._calls.progress import ProgressLine, Reporter, progress_text
from bertstream.client._calls.stream import StreamCounts
from bertstream.client._encoding.tensors import array_of, rows_of
from bertstream.client._enums import name_of, value_of
from bertstream.client._texts import MessageLimits, cut, prepare
from bertstream.client._transport.channels import LeastLoaded, rpc_names, service_config
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import types_pb2 as types
from tests.client.fake_encodings import tensor

VALUES = np.array([[0.0, -1.5, 3.25], [127.0, 0.5, -64.0]], np.float32)


@pytest.mark.parametrize("data_type", [1, 2, 3])
def test_floats_come_back(data_type: int) -> None:
    np.testing.assert_array_equal(array_of(tensor(VALUES, data_type)), VALUES)


def test_int8_rows_have_their_scales() -> None:
    array = array_of(tensor(VALUES, types.DATA_TYPE_INT8))
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, VALUES, atol=0.5)


def test_float32_is_a_view() -> None:
    array = array_of(tensor(VALUES, types.DATA_TYPE_FLOAT32))
    assert not array.flags.owndata
    assert not array.flags.writeable


@pytest.mark.parametrize(
    "broken",
    [
        types.Tensor(data_type=types.DATA_TYPE_FLOAT32, shape=[2, 2], data=b"\0" * 12),
        types.Tensor(data_type=types.DATA_TYPE_FLOAT32, shape=[1], data=b"\0" * 3),
        types.Tensor(data_type=types.DATA_TYPE_INT8, shape=[2, 2], data=b"\0" * 4, scales=b"\0" * 4),
        types.Tensor(data_type=types.DataType.ValueType(99), shape=[1], data=b"\0" * 4),
    ],
)
def test_tensors_that_make_no_sense(broken: types.Tensor) -> None:
    with pytest.raises(Internal, match="tensor of shape"):
        array_of(broken)


def test_ragged_rows() -> None:
    ragged = types.RaggedTensor(values=tensor(VALUES, 1), row_counts=[0, 2, 0])
    assert [len(rows) for rows in rows_of(ragged)] == [0, 2, 0]
    ragged.row_counts.append(1)
    with pytest.raises(Internal, match="row_counts"):
        rows_of(ragged)


def test_cutting_keeps_kinds_apart_and_limits() -> None:
    texts = ["a", "b", ["w"], "c" * 90, "d" * 90, [1], "e"]
    groups = list(cut(enumerate(prepare(text, 0) for text in texts), MessageLimits(3, 150)))
    assert sorted(index for group in groups for index in group.indexes) == list(range(7))
    assert [group.indexes for group in groups if group.kind == "texts"] == [[0, 1, 3], [4, 6]]


@pytest.mark.parametrize("text", ["", "abc", "é世😀" * 50, ("ab", "é"), ["a", "世界", ""], [1, 2, 2**31 - 1], []])
def test_sizes_are_never_too_small(text: object) -> None:
    prepared = prepare(text, 0)
    for times in (1, 7):
        ((group),) = cut(enumerate([prepared] * times), MessageLimits(7, 1 << 20))
        assert group.batch().ByteSize() <= times * prepared.size + 16


def test_enum_names() -> None:
    assert value_of(encoding.PoolingMode, "mean_sqrt_len", "pooling") == 4
    assert name_of(encoding.PoolingMode, encoding.POOLING_MODE_MEAN_SQRT_LEN) == "mean_sqrt_len"
    assert name_of(encoding.PoolingMode, encoding.PoolingMode.ValueType(77)) == "77"
    with pytest.raises(ValueError, match="pooling must be one of 'cls', 'mean'"):
        value_of(encoding.PoolingMode, "unspecified", "pooling")


def test_progress_is_reported_now_and_then() -> None:
    reports: list[Progress] = []
    times = iter([0.0, 0.1, 0.25, 0.3, 0.5])
    reporter = Reporter(reports.append, total=10, every_seconds=0.2, clock=lambda: next(times))
    for texts in range(3):
        reporter.update(StreamCounts(texts))
    reporter.update(StreamCounts(10, tokens=50), finished=True)
    assert [(report.texts, report.seconds) for report in reports] == [(1, 0.25), (10, 0.5)]
    assert reports[-1].texts_per_second == 20
    assert reports[-1].tokens_per_second == 100


def test_progress_text() -> None:
    progress = Progress(12_345, 2, 617_250, 3725.0, 50_000, False)
    assert progress_text(progress) == "12,345 of 50,000 texts (24 %) · 3 texts/s · 166 tokens/s · 1:02:05 · 2 failed"
    assert progress_text(Progress(0, 0, 0, 0.0, None, False)) == "0 texts · 0 texts/s · 0 tokens/s · 0:00"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_line(terminal: bool) -> None:
    file = io.StringIO()
    file.isatty = lambda: terminal  # type: ignore[method-assign]
    line = ProgressLine(file)
    line(Progress(1, 0, 1, 1.0, None, False))
    line(Progress(2, 0, 2, 1.0, None, True))
    assert file.getvalue().count("\n") == (1 if terminal else 2)
    assert ("\r" in file.getvalue()) == terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_a_progress_line_is_left_when_the_stream_fails(terminal: bool) -> None:
    file = io.StringIO()
    file.isatty = lambda: terminal  # type: ignore[method-assign]
    line = ProgressLine(file)
    line.end()
    assert file.getvalue() == ""
    line(Progress(1, 0, 1, 1.0, None, False))
    line.end()
    line.end()
    assert file.getvalue().endswith("0:01\n")
    assert file.getvalue().count("\n") == 1


def test_health_messages() -> None:
    assert check_request("") == b""
    assert check_request("x" * 300) == b"\x0a\xac\x02" + b"x" * 300
    assert check_response(b"\x08\x01") is Health.SERVING
    assert check_response(b"") is Health.UNKNOWN
    with pytest.raises(Internal):
        check_response(b"\x08\x09")


def test_health_messages_are_those_of_the_generated_code() -> None:
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    for service in ("", "bertstream.v1.EncodingService", "é" * 200):
        assert check_request(service) == health_pb2.HealthCheckRequest(service=service).SerializeToString()
    for status in Health:
        assert check_response(health_pb2.HealthCheckResponse(status=status.value).SerializeToString()) is status


def test_the_least_loaded_channel_is_taken() -> None:
    balance = LeastLoaded(3)
    assert [balance.acquire() for _ in range(4)] == [0, 1, 2, 0]
    balance.release(1)
    assert balance.acquire() == 1


def test_retries_are_for_calls_with_one_request_that_change_nothing() -> None:
    (method,) = service_config(4)["methodConfig"]
    names = {name["method"] for name in method["name"]}
    streams = {"StreamEncodings", "StreamGenerations", "StreamPredictions", "StreamTokenizations"}
    assert names == {*rpc_names(), "Check"} - streams - {"LoadModel", "UnloadModel"}
    assert method["retryPolicy"]["maxAttempts"] == 5
    assert service_config(0) == {}


def test_rpc_names_are_unique() -> None:
    names = list(rpc_names())
    assert len(names) == len(set(names))
