from __future__ import annotations

from typing import get_args

import pytest

from bertstream.client import ComputeType
from bertstream.server.config import FIELDS
from bertstream.server.core.errors import RequestError
from bertstream.server.messages import LoadModel
from bertstream.server.protocols.bertstream_v1.validation.loading import COMPUTE_TYPES, parse_load
from bertstream.server.protocols.bertstream_v1.validation.names import WIRE_TYPES
from bertstream.server.protocols.enums import value_of
from bertstream.v1 import models_pb2, types_pb2
from bertstream.workers.compile.targets import DTYPES
from tests.server.protocols.bertstream_v1.validation.support import refused


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_precision_may_be_asked_for(dtype: str) -> None:
    request = models_pb2.LoadModelRequest(name="a", source="org/b", workers=2)
    assert parse_load(request, 8) == LoadModel("a", "org/b", "", 2)
    request.compute_type = value_of(COMPUTE_TYPES, dtype)
    assert parse_load(request, 8) == LoadModel("a", "org/b", dtype, 2)
    request.allow_unsupported_modules = True
    assert parse_load(request, 8) == LoadModel("a", "org/b", dtype, 2, allow_unsupported_modules=True)


def test_one_that_is_not_there() -> None:
    request = models_pb2.LoadModelRequest(name="a", source="b", compute_type=types_pb2.DataType.ValueType(99))
    with pytest.raises(RequestError) as raised:
        parse_load(request, 8)
    assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_ENUM", "compute_type")


def test_all_who_name_precisions_name_the_same() -> None:
    assert get_args(ComputeType) == DTYPES
    assert FIELDS["dtype"].metadata["choices"] == ("auto", *DTYPES)
    assert set(COMPUTE_TYPES.values()) == {"", *DTYPES}
    assert set(WIRE_TYPES.values()) == {*DTYPES} - {"fp8"}  # by which nothing travels
