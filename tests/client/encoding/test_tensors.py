"""Tensors read from messages."""

from __future__ import annotations

import numpy as np
import pytest

from bertstream.client import Internal
from bertstream.client._encoding.tensors import array_of, matrices_of, rows_of
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


def test_int8_with_a_scale_that_is_infinite() -> None:
    scales = np.array([[np.inf]], "<f4").tobytes()
    tensor = types.Tensor(data_type=types.DATA_TYPE_INT8, shape=[1, 2], data=b"\x00\x01", scales=scales)
    np.testing.assert_array_equal(array_of(tensor), [[np.nan, np.inf]])
    np.testing.assert_array_equal(matrices_of(tensor, None), [[np.nan, np.inf]])


@pytest.mark.parametrize("shape", [(1 << 40, 2), (-1, 2), (1, 1 << 40)])
def test_int8_matrices_take_no_memory_but_that_of_what_came(shape: tuple[int, int]) -> None:
    scales = np.ones(1, "<f4").tobytes()
    tensor = types.Tensor(data_type=types.DATA_TYPE_INT8, shape=[2], data=b"\x00\x01", scales=scales)
    with pytest.raises(Internal, match="a tensor of shape"):
        matrices_of(tensor, [shape, (0, 2)])
