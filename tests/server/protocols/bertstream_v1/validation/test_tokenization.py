from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.tokenization import Ids, Texts
from bertstream.server.protocols.bertstream_v1.validation.tokenization import (
    ALL_COLUMNS,
    AskedTokenization,
    parse_tokenization,
)
from bertstream.v1 import tokenization_pb2 as k
from bertstream.v1 import types_pb2 as t
from tests.server.protocols.bertstream_v1.validation.support import description, refused

ZERO: Any = 0
ONE: Any = 1
UNKNOWN: Any = 99


def parse(options: k.TokenizationOptions | None = None, **model: Any) -> AskedTokenization:
    return parse_tokenization(options or k.TokenizationOptions(), "mine", description(**model))


def truncation(**options: Any) -> k.TokenizationOptions:
    return k.TokenizationOptions(truncation=t.TruncationOptions(**options))


def test_nothing_said_is_everything() -> None:
    plan = parse()
    assert plan.options.columns == ALL_COLUMNS
    assert plan.type_ids
    assert plan.options.allow_empty
    assert sorted(plan.effective.outputs) == [1, 2, 3, 4, 5]
    assert plan.effective.offset_unit == k.OFFSET_UNIT_CODE_POINTS
    assert plan.effective.truncation.max_length == 128
    assert plan.effective.model == "mine"


@pytest.mark.parametrize(
    ("outputs", "columns", "type_ids"),
    [([1], {"tokens"}, False), ([3], set(), True), ([2, 5, 2], {"offsets", "word_ids"}, False)],
)
def test_only_what_is_wanted(outputs: list[Any], columns: set[str], type_ids: bool) -> None:
    plan = parse(k.TokenizationOptions(outputs=outputs))
    assert set(plan.options.columns) == columns
    assert plan.type_ids == type_ids
    assert list(plan.effective.outputs) == outputs


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        (k.TokenizationOptions(outputs=[ONE, UNKNOWN]), "INVALID_ENUM", "outputs[1]"),
        (k.TokenizationOptions(outputs=[ZERO]), "INVALID_ENUM", "outputs[0]"),
        (k.TokenizationOptions(offset_unit=UNKNOWN), "INVALID_ENUM", "offset_unit"),
        (truncation(strategy=99), "INVALID_ENUM", "truncation.strategy"),
        (truncation(side=99), "INVALID_ENUM", "truncation.side"),
        (truncation(max_length=-1), "INVALID_RANGE", "truncation.max_length"),
        (truncation(max_length=513), "INVALID_RANGE", "truncation.max_length"),
        (k.TokenizationOptions(stride=-1), "INVALID_RANGE", "stride"),
        (k.TokenizationOptions(stride=1), "INVALID_COMBINATION", "stride"),
    ],
)
def test_options_that_cannot_be(options: k.TokenizationOptions, reason: str, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(options)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, f"options.{field}")


def test_windows_and_strides() -> None:
    plan = parse(k.TokenizationOptions(overflowing_windows=True, stride=7))
    assert (plan.options.windows, plan.options.stride) == (True, 7)


@pytest.mark.parametrize("max_length", [1, 512])
def test_lengths_up_to_the_models(max_length: int) -> None:
    assert parse(truncation(max_length=max_length)).options.truncation.max_length == max_length


def test_the_side_is_the_checkpoints_unless_said() -> None:
    assert parse(truncation_side="left").options.truncation.side == "left"
    said = truncation(side=t.TRUNCATION_SIDE_RIGHT)
    assert parse(said, truncation_side="left").options.truncation.side == "right"


def test_special_tokens_go_with_everything_but_ids() -> None:
    ids = Ids(np.array([1], np.int32), np.array([1], np.int32))
    assert parse().options_for(Texts(["a"])).add_special_tokens
    assert not parse().options_for(ids).add_special_tokens
