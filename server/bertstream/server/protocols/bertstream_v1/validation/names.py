"""The protocol's enums and the names that the inside uses. An unknown value is the caller's error, never a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from bertstream.server.core.errors import invalid
from bertstream.server.core.tokenization import Column, OffsetUnit, Side, Strategy
from bertstream.v1 import encoding_pb2, tokenization_pb2, types_pb2
from bertstream.workers.contract import BULK, INTERACTIVE, LayerCombination, Output, PoolingMode, WireType

Name = TypeVar("Name")

OUTPUTS: Mapping[int, Output] = {
    encoding_pb2.ENCODING_OUTPUT_POOLED: "pooled",
    encoding_pb2.ENCODING_OUTPUT_POOLER_OUTPUT: "pooler_output",
    encoding_pb2.ENCODING_OUTPUT_LAST_HIDDEN_STATE: "last_hidden_state",
    encoding_pb2.ENCODING_OUTPUT_HIDDEN_STATES: "hidden_states",
    encoding_pb2.ENCODING_OUTPUT_ATTENTIONS: "attentions",
    encoding_pb2.ENCODING_OUTPUT_POOLED_SPANS: "pooled_spans",
}
POOLING_MODES: Mapping[int, PoolingMode] = {
    encoding_pb2.POOLING_MODE_CLS: "cls",
    encoding_pb2.POOLING_MODE_MEAN: "mean",
    encoding_pb2.POOLING_MODE_MAX: "max",
    encoding_pb2.POOLING_MODE_MEAN_SQRT_LEN: "mean_sqrt_len",
    encoding_pb2.POOLING_MODE_LAST_TOKEN: "last_token",
    encoding_pb2.POOLING_MODE_POOLER: "pooler",
    encoding_pb2.POOLING_MODE_WEIGHTED_MEAN: "weighted_mean",
    encoding_pb2.POOLING_MODE_CHECKPOINT: "checkpoint",
}
LAYER_COMBINATIONS: Mapping[int, LayerCombination] = {
    encoding_pb2.LAYER_COMBINATION_UNSPECIFIED: "mean",
    encoding_pb2.LAYER_COMBINATION_MEAN: "mean",
    encoding_pb2.LAYER_COMBINATION_SUM: "sum",
    encoding_pb2.LAYER_COMBINATION_CONCATENATE: "concatenate",
}
WIRE_TYPES: Mapping[int, WireType] = {
    types_pb2.DATA_TYPE_UNSPECIFIED: "float32",
    types_pb2.DATA_TYPE_FLOAT32: "float32",
    types_pb2.DATA_TYPE_FLOAT16: "float16",
    types_pb2.DATA_TYPE_BFLOAT16: "bfloat16",
    types_pb2.DATA_TYPE_INT8: "int8",
}
STRATEGIES: Mapping[int, Strategy] = {
    types_pb2.TRUNCATION_STRATEGY_UNSPECIFIED: "longest_first",
    types_pb2.TRUNCATION_STRATEGY_REFUSE: "refuse",
    types_pb2.TRUNCATION_STRATEGY_LONGEST_FIRST: "longest_first",
    types_pb2.TRUNCATION_STRATEGY_ONLY_FIRST: "only_first",
    types_pb2.TRUNCATION_STRATEGY_ONLY_SECOND: "only_second",
}
SIDES: Mapping[int, Side] = {
    types_pb2.TRUNCATION_SIDE_RIGHT: "right",
    types_pb2.TRUNCATION_SIDE_LEFT: "left",
}
COLUMNS: Mapping[int, Column | None] = {
    tokenization_pb2.TOKENIZATION_OUTPUT_TOKENS: "tokens",
    tokenization_pb2.TOKENIZATION_OUTPUT_OFFSETS: "offsets",
    tokenization_pb2.TOKENIZATION_OUTPUT_TOKEN_TYPE_IDS: None,  # always there
    tokenization_pb2.TOKENIZATION_OUTPUT_SPECIAL_TOKENS_MASK: "special_tokens_mask",
    tokenization_pb2.TOKENIZATION_OUTPUT_WORD_IDS: "word_ids",
}
OFFSET_UNITS: Mapping[int, OffsetUnit] = {
    tokenization_pb2.OFFSET_UNIT_UNSPECIFIED: "code_points",
    tokenization_pb2.OFFSET_UNIT_CODE_POINTS: "code_points",
    tokenization_pb2.OFFSET_UNIT_UTF16_UNITS: "utf16",
    tokenization_pb2.OFFSET_UNIT_UTF8_BYTES: "utf8",
}
PRIORITIES: Mapping[int, int] = {
    types_pb2.PRIORITY_INTERACTIVE: INTERACTIVE,
    types_pb2.PRIORITY_BULK: BULK,
}


def name_of(names: Mapping[int, Name], value: int, path: str) -> Name:
    """The inside's name of an enum's value. Raises INVALID_ARGUMENT for one that is not there."""
    if value not in names:
        raise invalid(path, f"{value} is not a valid value here", "INVALID_ENUM")
    return names[value]


def names_of(names: Mapping[int, Name], values: Sequence[int], path: str) -> list[Name]:
    """The names of a repeated field's values, each once, in the order of their first mention."""
    distinct = list(dict.fromkeys(values))
    for value in distinct[: len(names) + 1]:  # one more than there are has an unknown one
        if value not in names:
            name_of(names, value, f"{path}[{list(values).index(value)}]")
    return [names[value] for value in distinct]


def value_of(names: Mapping[int, Name], name: Name) -> Any:
    """The enum's value of a name, typed for any enum's field: the last, as UNSPECIFIED may share the default's name."""
    return next(value for value, each in reversed(list(names.items())) if each == name)
