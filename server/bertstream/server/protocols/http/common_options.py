"""Options that the bodies of our own endpoints share, beside the inputs, and the messages that they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from google.protobuf.message import Message
from msgspec import Struct

from bertstream.server.core.errors import RequestError, Violation, invalid
from bertstream.server.core.tokenization import Side, Strategy
from bertstream.server.protocols.bertstream_v1.validation.names import SIDES, STRATEGIES
from bertstream.server.protocols.enums import value_of
from bertstream.v1 import types_pb2

_OPTION = re.compile(r"(?:^|(?<=\(see ))options\.(truncation\.\w+|\w+)")
MOST = (1 << 31) - 1  # that messages hold
# Where the body's name of an option is not that of the message.
_NAMES: Mapping[str, str] = {
    "truncation.max_length": "max_length",
    "truncation.side": "truncation_side",
    "truncation.strategy": "truncation",
    "hidden_state_layers": "layers",
    "attention_layers": "layers",
    "attention_heads": "heads",
    "keep_all_labels": "ignored_labels",
}


class OwnRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """What the bodies of all of them may say; null stands for the default."""

    model: str | None = None
    max_length: int | None = None
    priority: Literal["interactive", "bulk"] | None = None


class CutRequest(OwnRequest, kw_only=True):
    """What those may say whose long texts are cut."""

    truncation: bool | Strategy | None = None
    truncation_side: Side | None = None


class TokenizedRequest(CutRequest, kw_only=True):
    """What those may say whose texts are inputs as they are."""

    add_special_tokens: bool | None = None


def truncation_of(request: CutRequest) -> types_pb2.TruncationOptions:
    """Return what the body says of inputs that are too long. Raises INVALID_RANGE."""
    options = types_pb2.TruncationOptions()
    if (most := max_length_of(request)) is not None:
        options.max_length = most
    if request.truncation is not None:
        by_flag: Mapping[bool | Strategy, Strategy] = {True: "longest_first", False: "refuse"}
        options.strategy = value_of(STRATEGIES, by_flag.get(request.truncation, request.truncation))
    if request.truncation_side is not None:
        options.side = value_of(SIDES, request.truncation_side)
    return options


def max_length_of(request: OwnRequest) -> int | None:
    """Return the most tokens of an input, if the body says it. Raises INVALID_RANGE."""
    if request.max_length is not None and not 1 <= request.max_length <= MOST:
        raise invalid("max_length", "it must be at least 1, and not more than the model's", "INVALID_RANGE")
    return request.max_length


def priority_of(request: OwnRequest) -> types_pb2.Priority.ValueType:
    """Return the priority that the body asks for."""
    return types_pb2.Priority.Value(f"PRIORITY_{(request.priority or 'unspecified').upper()}")


def fill(message: Message, values: Mapping[str, Any]) -> None:
    """Set fields of a message to these values; None leaves one unset. Raises INVALID_RANGE for what does not fit."""
    for name, value in values.items():
        try:
            if isinstance(value, list):
                getattr(message, name).extend(value)
            elif value is not None:
                setattr(message, name, value)
        except (ValueError, OverflowError):
            raise invalid(f"options.{name}", "a number is too large or too small", "INVALID_RANGE") from None


@contextmanager
def named_as_in_body() -> Iterator[None]:
    """Have errors name options by the body's own names, as "top_k" instead of "options.top_k"."""
    try:
        yield
    except RequestError as error:
        violations = tuple(Violation(_renamed(each.field), each.description) for each in error.violations)
        raise replace(error, message=_renamed(error.message), violations=violations) from None


def _renamed(text: str) -> str:
    return _OPTION.sub(lambda found: _NAMES.get(found[1], found[1]), text)
