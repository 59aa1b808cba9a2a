"""Parses the options of truncation and tokenization."""

from __future__ import annotations

from dataclasses import dataclass

from bertstream.server.core.errors import invalid
from bertstream.server.core.plans import TokenizationPlan
from bertstream.server.core.tokenization import Column, Side, TokenizeOptions, Truncation
from bertstream.server.protocols.bertstream_v1.validation.names import COLUMNS, OFFSET_UNITS, SIDES, STRATEGIES
from bertstream.server.protocols.enums import name_of, names_of, value_of
from bertstream.v1 import tokenization_pb2, types_pb2
from bertstream.workers.programs.description import ModelDescription

ALL_COLUMNS: frozenset[Column] = frozenset({"tokens", "offsets", "special_tokens_mask", "word_ids"})


@dataclass(frozen=True, slots=True)
class AskedTokenization(TokenizationPlan):
    """A plan, and the options in effect, which the response repeats."""

    effective: tokenization_pb2.TokenizationOptions


def parse_tokenization(
    options: tokenization_pb2.TokenizationOptions, name: str, description: ModelDescription, path: str = "options"
) -> AskedTokenization:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path."""
    wanted = names_of(COLUMNS, options.outputs, f"{path}.outputs")
    if options.stride < 0:
        raise invalid(f"{path}.stride", "it must not be negative", "INVALID_RANGE")
    if options.stride and not options.overflowing_windows:
        raise invalid(f"{path}.stride", "it means something only with overflowing_windows", "INVALID_COMBINATION")
    parsed = TokenizeOptions(
        truncation=parse_truncation(options.truncation, description, f"{path}.truncation"),
        windows=options.overflowing_windows,
        stride=options.stride,
        columns=frozenset(column for column in wanted if column) if wanted else ALL_COLUMNS,
        offset_unit=name_of(OFFSET_UNITS, options.offset_unit, f"{path}.offset_unit"),
        allow_empty=True,
    )
    effective = tokenization_pb2.TokenizationOptions()
    effective.CopyFrom(options)
    effective.model = name
    effective.truncation.CopyFrom(effective_truncation(parsed.truncation))
    effective.offset_unit = value_of(OFFSET_UNITS, parsed.offset_unit)
    if not wanted:
        effective.outputs.extend(value_of(COLUMNS, column) for column in COLUMNS.values())
    special = options.add_special_tokens if options.HasField("add_special_tokens") else None
    return AskedTokenization(parsed, not wanted or None in wanted, special, effective)


def parse_truncation(options: types_pb2.TruncationOptions, description: ModelDescription, path: str) -> Truncation:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path."""
    max_length = options.max_length or description.default_max_length
    if not 1 <= max_length <= description.max_tokens:
        raise invalid(
            f"{path}.max_length",
            f"{max_length} is not between 1 and the model's {description.max_tokens}",
            "INVALID_RANGE",
        )
    strategy = name_of(STRATEGIES, options.strategy, f"{path}.strategy")
    unset = options.side == types_pb2.TRUNCATION_SIDE_UNSPECIFIED
    own_side: Side = "left" if description.truncation_side == "left" else "right"
    side = own_side if unset else name_of(SIDES, options.side, f"{path}.side")
    return Truncation(strategy, max_length, side)


def effective_truncation(truncation: Truncation) -> types_pb2.TruncationOptions:
    """Return the truncation in effect, as a response repeats it."""
    return types_pb2.TruncationOptions(
        strategy=value_of(STRATEGIES, truncation.strategy),
        side=value_of(SIDES, truncation.side),
        max_length=truncation.max_length,
    )
