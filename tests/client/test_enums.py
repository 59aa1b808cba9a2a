"""Names of enum values."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, get_args

import pytest

from bertstream.client import (
    ComputeType,
    LayerCombination,
    OffsetUnit,
    Output,
    PoolingMode,
    Priority,
    SpanUnit,
    TokenColumn,
    Truncation,
    TruncationSide,
    WireType,
)
from bertstream.client._enums import name_of, value_of
from bertstream.client._tasks.entities import Aggregation
from bertstream.client._tasks.labels import ScoreFunction
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tasks_pb2 as tasks
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types


def test_enum_names() -> None:
    assert value_of(encoding.PoolingMode, "mean_sqrt_len", "pooling") == 4
    assert name_of(encoding.PoolingMode, encoding.POOLING_MODE_MEAN_SQRT_LEN) == "mean_sqrt_len"
    assert name_of(encoding.PoolingMode, encoding.PoolingMode.ValueType(77)) == "77"
    with pytest.raises(ValueError, match="pooling must be one of 'cls', 'mean'"):
        value_of(encoding.PoolingMode, "unspecified", "pooling")


@pytest.mark.parametrize(
    ("names", "enum", "left_out"),
    [
        (Aggregation, tasks.AggregationStrategy, set()),
        (ComputeType, types.DataType, set()),
        (LayerCombination, encoding.LayerCombination, set()),
        (OffsetUnit, tokenization.OffsetUnit, set()),
        (Output, encoding.EncodingOutput, set()),
        (PoolingMode, encoding.PoolingMode, set()),
        (Priority, types.Priority, set()),
        (ScoreFunction, tasks.ScoreFunction, set()),
        (SpanUnit, encoding.SpanUnit, set()),
        (TokenColumn, tokenization.TokenizationOutput, set()),
        (Truncation, types.TruncationStrategy, set()),
        (TruncationSide, types.TruncationSide, set()),
        (WireType, types.DataType, {"fp8"}),  # is no type of tensors in messages
    ],
)
def test_type_checkers_know_all_names_of_the_protocol(names: Any, enum: Any, left_out: Set[str]) -> None:
    assert set(get_args(names)) | left_out == {name_of(enum, value) for value in enum.values() if value}
    assert not left_out & set(get_args(names))
