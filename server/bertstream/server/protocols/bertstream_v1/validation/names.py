"""The server's own names of the values of the protocol's enums."""

from __future__ import annotations

from collections.abc import Mapping

from bertstream.server.core.kinds import TextKind
from bertstream.server.core.tokenization import Column, OffsetUnit, Side, Strategy
from bertstream.server.core.windows import WindowPooling
from bertstream.server.protocols.enums import names_in
from bertstream.v1 import encoding_pb2, tokenization_pb2, types_pb2
from bertstream.workers.contract import BULK, INTERACTIVE, LayerCombination, Output, PoolingMode, WireType

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
TEXT_KINDS: Mapping[int, TextKind | None] = {
    types_pb2.TEXT_KIND_UNSPECIFIED: None,
    types_pb2.TEXT_KIND_QUERY: "query",
    types_pb2.TEXT_KIND_DOCUMENT: "document",
}
WINDOW_POOLINGS: Mapping[int, WindowPooling] = names_in(types_pb2.WindowPooling, WindowPooling)
PRIORITIES: Mapping[int, int] = {
    types_pb2.PRIORITY_INTERACTIVE: INTERACTIVE,
    types_pb2.PRIORITY_BULK: BULK,
}
