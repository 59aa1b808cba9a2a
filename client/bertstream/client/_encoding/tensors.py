"""Messages with tensors to NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertstream.client._errors import unexpected_response
from bertstream.client._types import FloatArray
from bertstream.v1 import types_pb2 as types


def array_of(tensor: types.Tensor) -> FloatArray:
    """Return a Tensor as an array of its shape.

    float32 and float16 become read-only views of the message's bytes, without a copy; bfloat16 and int8 become new
    float32 arrays. Raises Internal if the bytes do not fit the shape.
    """
    try:
        return _decode(tensor, tuple(tensor.shape))
    except ValueError as error:  # raised by NumPy if the bytes do not fit the shape
        raise unexpected_response(f"a tensor of shape {list(tensor.shape)}: {error}") from None


def rows_of(ragged: types.RaggedTensor) -> list[FloatArray]:
    """Return a RaggedTensor as one array [rows, width] per text, which are views as those of `array_of`."""
    values = array_of(ragged.values)
    ends = np.cumsum([0, *ragged.row_counts])
    if values.ndim != 2 or ends[-1] != len(values):
        raise unexpected_response(f"row_counts add up to {ends[-1]} for values of shape {list(values.shape)}")
    return [values[start:end] for start, end in pairwise(ends.tolist())]


def matrices_of(tensor: types.Tensor, shapes: Sequence[tuple[int, int]] | None) -> list[FloatArray]:
    """Return matrices of these shapes that are concatenated in a tensor of one dimension, each flattened.

    Without shapes, the tensor is one matrix, or some rows of one. With INT8 each row of each matrix has its own scale,
    although the tensor has only one dimension.
    """
    int8 = tensor.data_type == types.DATA_TYPE_INT8
    numbers = _scaled_rows(tensor, shapes) if int8 else array_of(tensor).reshape(-1)
    if shapes is None:
        return [numbers]
    ends = np.cumsum([0, *(rows * width for rows, width in shapes)])
    if ends[-1] != len(numbers):
        raise unexpected_response(f"{len(numbers)} numbers for matrices of {ends[-1]}")
    return [numbers[start:end] for start, end in pairwise(ends.tolist())]


def _scaled_rows(tensor: types.Tensor, shapes: Sequence[tuple[int, int]] | None) -> FloatArray:
    try:
        numbers, scales = np.frombuffer(tensor.data, np.int8), np.frombuffer(tensor.scales, "<f4").astype(np.float32)
        if shapes is None:
            shapes = [(len(scales), len(numbers) // max(1, len(scales)))]
        if sum(rows for rows, _ in shapes) != len(scales):  # before any memory is taken by what the server says
            raise ValueError(f"{len(scales)} scales of {sum(rows for rows, _ in shapes)} rows")
        if sum(rows * width for rows, width in shapes) != len(numbers):
            raise ValueError(f"{len(numbers)} numbers")
        widths = np.repeat([width for _, width in shapes], [rows for rows, _ in shapes])
        scaled = _scaled(numbers, np.repeat(scales, widths))
    except ValueError as error:  # raised by NumPy if the bytes do not fit the shapes
        raise unexpected_response(f"a tensor of shape {list(tensor.shape)}: {error}") from None
    return np.asarray(scaled, np.float32)


def _scaled(numbers: NDArray[np.int8], scales: NDArray[np.float32]) -> FloatArray:
    """Return the product; of a scale that is infinite too, without the warning of NumPy's."""
    with np.errstate(invalid="ignore", over="ignore"):
        scaled: FloatArray = numbers * scales
    return scaled


def _decode(tensor: types.Tensor, shape: tuple[int, ...]) -> FloatArray:
    match tensor.data_type:
        case types.DATA_TYPE_FLOAT32:
            return np.frombuffer(tensor.data, "<f4").reshape(shape)
        case types.DATA_TYPE_FLOAT16:
            return np.frombuffer(tensor.data, "<f2").reshape(shape)
        case types.DATA_TYPE_BFLOAT16:
            return (np.frombuffer(tensor.data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
        case types.DATA_TYPE_INT8:
            scales = np.frombuffer(tensor.scales, "<f4").astype(np.float32).reshape((*shape[:-1], 1))
            return _scaled(np.frombuffer(tensor.data, np.int8).reshape(shape), scales)
    raise ValueError(f"unknown data type {tensor.data_type}")
