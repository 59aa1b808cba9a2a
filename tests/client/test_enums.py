"""Names of enum values."""

from __future__ import annotations

import pytest

from bertstream.client._enums import name_of, value_of
from bertstream.v1 import encoding_pb2 as encoding


def test_enum_names() -> None:
    assert value_of(encoding.PoolingMode, "mean_sqrt_len", "pooling") == 4
    assert name_of(encoding.PoolingMode, encoding.POOLING_MODE_MEAN_SQRT_LEN) == "mean_sqrt_len"
    assert name_of(encoding.PoolingMode, encoding.PoolingMode.ValueType(77)) == "77"
    with pytest.raises(ValueError, match="pooling must be one of 'cls', 'mean'"):
        value_of(encoding.PoolingMode, "unspecified", "pooling")
