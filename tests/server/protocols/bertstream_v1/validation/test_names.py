from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.bertstream_v1.tasks.entities import AGGREGATIONS
from bertstream.server.protocols.bertstream_v1.validation import names
from bertstream.server.protocols.bertstream_v1.validation.generation import EARLY_STOPPINGS, FINISH_REASONS
from bertstream.server.protocols.bertstream_v1.validation.loading import COMPUTE_TYPES
from bertstream.server.protocols.bertstream_v1.validation.tasks import SCORE_FUNCTIONS
from bertstream.server.protocols.enums import name_of, value_of
from bertstream.v1 import encoding_pb2, generation_pb2, tasks_pb2, tokenization_pb2, types_pb2

ENUMS: list[tuple[Mapping[int, Any], Any, bool]] = [  # the table, the enum, whether UNSPECIFIED has a name in the table
    (names.OUTPUTS, encoding_pb2.EncodingOutput, False),
    (names.POOLING_MODES, encoding_pb2.PoolingMode, False),
    (names.LAYER_COMBINATIONS, encoding_pb2.LayerCombination, True),
    ({**names.WIRE_TYPES, types_pb2.DATA_TYPE_FP8: "fp8"}, types_pb2.DataType, True),  # in which nothing travels
    (COMPUTE_TYPES, types_pb2.DataType, True),
    (names.STRATEGIES, types_pb2.TruncationStrategy, True),
    (names.SIDES, types_pb2.TruncationSide, False),
    (names.COLUMNS, tokenization_pb2.TokenizationOutput, False),
    (names.OFFSET_UNITS, tokenization_pb2.OffsetUnit, True),
    (names.PRIORITIES, types_pb2.Priority, False),
    (SCORE_FUNCTIONS, tasks_pb2.ScoreFunction, False),
    (AGGREGATIONS, tasks_pb2.AggregationStrategy, True),
    (EARLY_STOPPINGS, generation_pb2.EarlyStopping, False),
    (FINISH_REASONS, generation_pb2.FinishReason, False),
]


@pytest.mark.parametrize(("table", "enum", "unspecified"), ENUMS)
def test_every_value_of_the_protocol_has_a_name_and_every_name_a_value(
    table: Mapping[int, Any], enum: Any, unspecified: bool
) -> None:
    assert set(table) == set(enum.values()) - (set() if unspecified else {0})
    for value in table.keys() - {0}:
        assert value_of(table, table[value]) == value


@pytest.mark.parametrize(("table", "enum", "unspecified"), ENUMS)
@pytest.mark.parametrize("value", [99, -1, 2**31 - 1, -(2**31)])
def test_unknown_values_are_the_callers_error(
    table: Mapping[int, Any], enum: Any, unspecified: bool, value: int
) -> None:
    with pytest.raises(RequestError) as raised:
        name_of(table, value, "options.field")
    assert raised.value.reason == "INVALID_ENUM"
    assert raised.value.violations[0].field == "options.field"
    assert str(value) in raised.value.message
