"""Maps the protocol's enums to the server's own names. An unknown value is the caller's error, never a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, get_args

from bertstream.server.core.errors import invalid
from bertstream.server.core.tokenization import Column, OffsetUnit, Side, Strategy
from bertstream.v1 import encoding_pb2, tokenization_pb2, types_pb2
from bertstream.workers.contract import BULK, INTERACTIVE, LayerCombination, Output, PoolingMode, WireType

Name = TypeVar("Name")


class Enum(Protocol):
    """An enum of the protocol."""

    def items(self) -> list[tuple[str, Any]]: ...


def names_in(enum: Enum, literal: Any, unspecified: str | None = None) -> Mapping[int, Any]:
    """Return the server's names of an enum's values, which are those of a Literal or of a union of several.

    They are the protocol's names, without the prefix and in lower case. `unspecified` is the name of the value
    UNSPECIFIED, if it has one; a value that is not in the Literal has no name.
    """
    (none, zero), *values = enum.items()
    known = {name for part in get_args(literal) for name in (get_args(part) or (part,))}
    named = {value: key.removeprefix(none.removesuffix("UNSPECIFIED")).lower() for key, value in values}
    default = {} if unspecified is None else {zero: unspecified}
    return {**default, **{value: name for value, name in named.items() if name in known}}


OUTPUTS: Mapping[int, Output] = names_in(encoding_pb2.EncodingOutput, Output)
POOLING_MODES: Mapping[int, PoolingMode] = names_in(encoding_pb2.PoolingMode, PoolingMode)
LAYER_COMBINATIONS: Mapping[int, LayerCombination] = names_in(encoding_pb2.LayerCombination, LayerCombination, "mean")
WIRE_TYPES: Mapping[int, WireType] = names_in(types_pb2.DataType, WireType, "float32")
STRATEGIES: Mapping[int, Strategy] = names_in(types_pb2.TruncationStrategy, Strategy, "longest_first")
SIDES: Mapping[int, Side] = names_in(types_pb2.TruncationSide, Side)
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
    """Return the server's name of an enum's value. Raises INVALID_ARGUMENT for a value without one."""
    if value not in names:
        raise invalid(path, f"{value} is not a valid value here", "INVALID_ENUM")
    return names[value]


def names_of(names: Mapping[int, Name], values: Sequence[int], path: str) -> list[Name]:
    """Return the names of a repeated field's values, each once, in the order of their first mention."""
    distinct = list(dict.fromkeys(values))
    for value in distinct[: len(names) + 1]:  # more values than names must have an unknown one among them
        if value not in names:
            name_of(names, value, f"{path}[{list(values).index(value)}]")
    return [names[value] for value in distinct]


def value_of(names: Mapping[int, Name], name: Name) -> Any:
    """Return the enum's value for a name, typed for any enum's field.

    It is the last one of the name, as UNSPECIFIED may share the name of the default.
    """
    return next(value for value, each in reversed(list(names.items())) if each == name)
