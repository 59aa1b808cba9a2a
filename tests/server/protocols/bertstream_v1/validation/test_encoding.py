from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.memo import Memo
from bertstream.server.core.tokenization import Ids, Inputs, Pairs, Texts, Words
from bertstream.server.protocols.bertstream_v1.validation.encoding import (
    AskedEncoding,
    parse_encoding,
    plan_of,
)
from bertstream.server.protocols.bertstream_v1.validation.prompts import MAX_PROMPT
from bertstream.v1 import encoding_pb2 as e
from bertstream.v1 import tokenization_pb2
from bertstream.v1 import types_pb2 as t
from bertstream.workers.contract import BULK, INTERACTIVE, OutputOptions, Pooling
from bertstream.workers.programs.description import DefaultPooling
from tests.server.protocols.bertstream_v1.validation.support import description, refused

TEXTS: list[Inputs] = [Texts(["a"]), Pairs(["a"], ["b"])]
IDS: list[Inputs] = [Ids(np.array([1], np.int32), np.array([1], np.int32)), Words(["a"], np.array([1], np.int32))]

UNKNOWN: Any = 99
OUTPUTS: Any = [1, 2, 3]


def parse(options: e.EncodingOptions | None = None, **model: Any) -> AskedEncoding:
    return parse_encoding(options or e.EncodingOptions(), "mine", description(**model), INTERACTIVE)


def pooling(**options: Any) -> e.EncodingOptions:
    return e.EncodingOptions(pooling=e.PoolingOptions(**options))


def wanted(plan: AskedEncoding) -> Pooling:
    assert plan.output_options.pooling is not None
    return plan.output_options.pooling


def test_nothing_said_is_the_checkpoints_own_way() -> None:
    plan = parse()
    assert plan.output_options == OutputOptions(("pooled",), Pooling("cls", (5,), "mean", True, 0), "float32")
    assert (plan.tokenize.truncation.max_length, plan.tokenize.truncation.side) == (128, "right")
    assert (plan.priority, plan.prompt) == (INTERACTIVE, "")


def test_the_effective_options_have_every_default_filled_in() -> None:
    effective = parse(default_prompt_name="query", truncation_side="left").effective
    assert effective == e.EncodingOptions(
        model="mine",
        outputs=[e.ENCODING_OUTPUT_POOLED],
        pooling=e.PoolingOptions(
            mode=e.POOLING_MODE_CLS, layers=[5], layer_combination=e.LAYER_COMBINATION_MEAN, normalize=True
        ),
        data_type=t.DATA_TYPE_FLOAT32,
        truncation=t.TruncationOptions(
            strategy=t.TRUNCATION_STRATEGY_LONGEST_FIRST, side=t.TRUNCATION_SIDE_LEFT, max_length=128
        ),
        prompt="query: ",
        priority=t.PRIORITY_INTERACTIVE,
        offset_unit=tokenization_pb2.OFFSET_UNIT_CODE_POINTS,
    )


def test_the_effective_options_ask_for_the_same_again() -> None:
    asked = e.EncodingOptions(
        outputs=[e.ENCODING_OUTPUT_LAST_HIDDEN_STATE, e.ENCODING_OUTPUT_POOLED],
        pooling=e.PoolingOptions(
            mode=e.POOLING_MODE_MAX,
            layers=[-1, 0],
            layer_combination=e.LAYER_COMBINATION_CONCATENATE,
            normalize=False,
            dimensions=40,
        ),
        data_type=t.DATA_TYPE_INT8,
        truncation=t.TruncationOptions(max_length=7),
        add_special_tokens=False,
        prompt_name="passage",
        priority=t.PRIORITY_BULK,
    )
    once = parse(asked)
    again = parse(once.effective)
    assert again.effective == once.effective
    assert (again.output_options, again.tokenize, again.prompt) == (once.output_options, once.tokenize, once.prompt)
    assert once.output_options == OutputOptions(
        ("last_hidden_state", "pooled"), Pooling("max", (5, 0), "concatenate", False, 40), "int8"
    )
    assert once.priority == BULK


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (e.EncodingOptions(outputs=[e.ENCODING_OUTPUT_POOLED, UNKNOWN]), "options.outputs[1]"),
        (e.EncodingOptions(outputs=[e.ENCODING_OUTPUT_UNSPECIFIED]), "options.outputs[0]"),
        (e.EncodingOptions(data_type=UNKNOWN), "options.data_type"),
        (e.EncodingOptions(data_type=t.DATA_TYPE_FP8), "options.data_type"),
        (e.EncodingOptions(priority=UNKNOWN), "options.priority"),
        (pooling(mode=UNKNOWN), "options.pooling.mode"),
        (pooling(layer_combination=UNKNOWN), "options.pooling.layer_combination"),
        (e.EncodingOptions(truncation=t.TruncationOptions(strategy=UNKNOWN)), "options.truncation.strategy"),
        (e.EncodingOptions(truncation=t.TruncationOptions(side=UNKNOWN)), "options.truncation.side"),
    ],
)
def test_unknown_enum_values(options: e.EncodingOptions, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(options)
    assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_ENUM", field)


@pytest.mark.parametrize(
    ("asked", "layers"), [([], (5,)), ([-1], (5,)), ([-6], (0,)), ([0, 5], (0, 5)), ([5, -2, 1], (5, 4, 1))]
)
def test_layers_count_from_either_end(asked: list[int], layers: tuple[int, ...]) -> None:
    assert wanted(parse(pooling(layers=asked))).layers == layers


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        (pooling(layers=[0, 6]), "INVALID_RANGE", "layers[1]"),
        (pooling(layers=[-7]), "INVALID_RANGE", "layers[0]"),
        (pooling(layers=[5, -1]), "INVALID_COMBINATION", "layers"),
        (pooling(layers=[1] * 1_000_000), "INVALID_COMBINATION", "layers"),
        (pooling(dimensions=-1), "INVALID_RANGE", "dimensions"),
        (pooling(dimensions=37), "INVALID_RANGE", "dimensions"),
        (pooling(layers=[1, 2], dimensions=37), "INVALID_RANGE", "dimensions"),
        (pooling(mode=e.POOLING_MODE_POOLER, layers=[1]), "INVALID_COMBINATION", "layers"),
        (pooling(mode=e.POOLING_MODE_POOLER, layers=[1, 5]), "INVALID_COMBINATION", "layers"),
    ],
)
def test_poolings_that_cannot_be(options: e.EncodingOptions, reason: str, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(options)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, f"options.pooling.{field}")


def test_dimensions_of_concatenated_layers() -> None:
    options = pooling(layers=[1, 2], layer_combination=e.LAYER_COMBINATION_CONCATENATE, dimensions=72)
    assert wanted(parse(options)).dimensions == 72
    assert parse(options).sizes.text == 72 * 4


def test_the_checkpoints_dimensions_go_with_its_mode() -> None:
    own = DefaultPooling("mean", dimensions=16)
    assert wanted(parse(default_pooling=own)).dimensions == 16
    assert wanted(parse(pooling(dimensions=20), default_pooling=own)).dimensions == 20
    assert wanted(parse(pooling(mode=e.POOLING_MODE_CLS), default_pooling=own)).dimensions == 0


def test_not_to_normalize_differs_from_not_saying() -> None:
    assert wanted(parse(pooling(normalize=False))).normalize is False
    assert wanted(parse(pooling())).normalize is True


OWN = DefaultPooling("checkpoint", True, dimensions=24, width=24, steps=("cls + mean pooling", "dense 72 to 24, Tanh"))
CHECKPOINT = e.POOLING_MODE_CHECKPOINT


def test_the_checkpoint_s_own_pooling_has_a_width_of_its_own() -> None:
    for options in (e.EncodingOptions(), pooling(), pooling(mode=CHECKPOINT), pooling(layers=[-1])):
        plan = parse(options, default_pooling=OWN)
        assert wanted(plan) == Pooling("checkpoint", (5,), "mean", True, 24)
        assert (plan.effective.pooling.mode, plan.effective.pooling.dimensions) == (CHECKPOINT, 24)
        assert plan.sizes.text == 4 * 24
    plan = parse(pooling(dimensions=7, normalize=False), default_pooling=OWN)
    assert wanted(plan) == Pooling("checkpoint", (5,), "mean", False, 7)
    plan = parse(pooling(mode=e.POOLING_MODE_MEAN), default_pooling=OWN)
    assert (wanted(plan).dimensions, plan.sizes.text) == (0, 4 * 36)
    wide = DefaultPooling("checkpoint", width=3 * 36)
    assert parse(default_pooling=wide).sizes.text == 4 * 3 * 36


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        (pooling(dimensions=25), "INVALID_RANGE", "dimensions"),
        (pooling(layers=[1]), "INVALID_COMBINATION", "layers"),
        (pooling(mode=CHECKPOINT, layers=[5, 4]), "INVALID_COMBINATION", "layers"),
    ],
)
def test_what_the_checkpoint_s_own_pooling_cannot_be(options: e.EncodingOptions, reason: str, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(options, default_pooling=OWN)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, f"options.pooling.{field}")


def test_the_checkpoint_s_own_pooling_may_be_asked_for_where_it_is_a_plain_mode() -> None:
    assert wanted(parse(pooling(mode=CHECKPOINT, layers=[1]))) == Pooling("cls", (1,), "mean", True, 0)


def test_pooling_needs_pooled() -> None:
    options = e.EncodingOptions(outputs=[e.ENCODING_OUTPUT_POOLER_OUTPUT], pooling=e.PoolingOptions())
    with pytest.raises(RequestError) as raised:
        parse(options)
    assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_COMBINATION", "options.pooling")
    options.ClearField("pooling")
    assert parse(options).output_options == OutputOptions(("pooler_output",))
    assert not parse(options).effective.HasField("pooling")


@pytest.mark.parametrize(
    "options", [e.EncodingOptions(outputs=[e.ENCODING_OUTPUT_POOLER_OUTPUT]), pooling(mode=e.POOLING_MODE_POOLER)]
)
def test_a_pooler_that_the_checkpoint_lacks(options: e.EncodingOptions) -> None:
    with pytest.raises(RequestError) as raised:
        parse(options, has_pooler=False)
    assert refused(raised) == ("FAILED_PRECONDITION", "OUTPUT_NOT_AVAILABLE", "")


def test_prompts() -> None:
    assert parse(e.EncodingOptions(prompt="so: ")).prompt == "so: "
    assert parse(e.EncodingOptions(prompt_name="passage")).prompt == "passage: "
    assert parse(default_prompt_name="query").prompt == "query: "
    assert parse(e.EncodingOptions(prompt=""), default_prompt_name="query").prompt == ""
    for name in ("none", ""):
        with pytest.raises(RequestError) as raised:
            parse(e.EncodingOptions(prompt_name=name))
        assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_PROMPT_NAME", "options.prompt_name")
        assert "query, passage" in raised.value.message
    with pytest.raises(RequestError) as raised:
        parse(e.EncodingOptions(prompt="x" * (MAX_PROMPT + 1)))
    assert refused(raised) == ("INVALID_ARGUMENT", "REQUEST_TOO_LARGE", "options.prompt")


def test_prompts_go_with_texts_only() -> None:
    asked, default = parse(e.EncodingOptions(prompt_name="query")), parse(default_prompt_name="query")
    for inputs in TEXTS:
        assert asked.prompt_for(inputs) == default.prompt_for(inputs) == "query: "
    for inputs in IDS:
        assert default.prompt_for(inputs) == ""
        with pytest.raises(RequestError) as raised:
            asked.prompt_for(inputs)
        assert refused(raised)[1:] == ("INVALID_COMBINATION", "options.prompt")


def test_special_tokens_go_with_everything_but_ids_unless_said() -> None:
    for inputs in (*TEXTS, *IDS):
        assert parse().options_for(inputs).add_special_tokens == (not isinstance(inputs, Ids))
        for said in (True, False):
            plan = parse(e.EncodingOptions(add_special_tokens=said))
            assert plan.options_for(inputs).add_special_tokens is said
            assert plan.effective.add_special_tokens is said


@pytest.mark.parametrize(("data_type", "size"), [(1, 4), (2, 2), (3, 2), (4, 1)])
def test_sizes_of_answers(data_type: Any, size: int) -> None:
    sizes = parse(e.EncodingOptions(outputs=OUTPUTS, data_type=data_type)).sizes
    assert (sizes.text, sizes.token, sizes.token_pair, sizes.span) == (2 * 36 * size, 36 * size, 0, 0)
    assert sizes.of(np.array([1, 9]), None).tolist() == [72 * size + 36 * size, 72 * size + 9 * 36 * size]
    assert parse(e.EncodingOptions(outputs=OUTPUTS[:1])).sizes.token == 0


def test_sizes_of_layers_heads_and_spans() -> None:
    options = e.EncodingOptions(
        outputs=[
            e.ENCODING_OUTPUT_HIDDEN_STATES,
            e.ENCODING_OUTPUT_ATTENTIONS,
            e.ENCODING_OUTPUT_POOLED_SPANS,
            e.ENCODING_OUTPUT_LAST_HIDDEN_STATE,
        ],
        hidden_state_layers=[0, 3],
        attention_layers=[1, -1],
        attention_heads=[2],
    )
    sizes = parse(options).sizes
    assert (sizes.text, sizes.token, sizes.token_pair, sizes.span) == (0, 3 * 36 * 4, 2 * 4, 36 * 4)
    assert sizes.of(np.array([10]), np.array([3])).tolist() == [10 * 432 + 100 * 8 + 3 * 144]


TWICE = "INVALID_COMBINATION"
HIDDEN, WEIGHTS = e.ENCODING_OUTPUT_HIDDEN_STATES, e.ENCODING_OUTPUT_ATTENTIONS


def test_layers_and_heads_are_resolved() -> None:
    everything = parse(e.EncodingOptions(outputs=[HIDDEN, WEIGHTS])).output_options
    assert everything.hidden_layers == (0, 1, 2, 3, 4, 5)
    assert everything.attention_layers == (1, 2, 3, 4, 5)
    assert everything.attention_heads == (0, 1, 2)
    some = parse(
        e.EncodingOptions(
            outputs=[HIDDEN, WEIGHTS],
            hidden_state_layers=[-1, 0, -6 + 2],
            attention_layers=[-5, 3],
            attention_heads=[-1, 0],
        )
    )
    assert some.output_options.hidden_layers == (0, 2, 5)
    assert some.output_options.attention_layers == (1, 3)
    assert some.output_options.attention_heads == (2, 0)  # in the order asked for
    assert list(some.effective.attention_heads) == [2, 0]


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        (e.EncodingOptions(outputs=[HIDDEN], hidden_state_layers=[0, 6]), "INVALID_RANGE", "hidden_state_layers[1]"),
        (e.EncodingOptions(outputs=[HIDDEN], hidden_state_layers=[-7]), "INVALID_RANGE", "hidden_state_layers[0]"),
        (
            e.EncodingOptions(outputs=[HIDDEN], hidden_state_layers=[5, -1]),
            "INVALID_COMBINATION",
            "hidden_state_layers",
        ),
        (e.EncodingOptions(outputs=[WEIGHTS], attention_layers=[0]), "INVALID_RANGE", "attention_layers[0]"),
        (e.EncodingOptions(outputs=[WEIGHTS], attention_layers=[-6]), "INVALID_RANGE", "attention_layers[0]"),
        (e.EncodingOptions(outputs=[WEIGHTS], attention_heads=[3]), "INVALID_RANGE", "attention_heads[0]"),
        (e.EncodingOptions(hidden_state_layers=[1]), "INVALID_COMBINATION", "hidden_state_layers"),
        (e.EncodingOptions(attention_layers=[1]), "INVALID_COMBINATION", "attention_layers"),
        (e.EncodingOptions(outputs=[HIDDEN], attention_heads=[1]), "INVALID_COMBINATION", "attention_heads"),
        (e.EncodingOptions(token_outputs=[UNKNOWN]), "INVALID_ENUM", "token_outputs[0]"),
        (e.EncodingOptions(offset_unit=UNKNOWN), "INVALID_ENUM", "offset_unit"),
        (
            e.EncodingOptions(
                outputs=[e.ENCODING_OUTPUT_POOLED_SPANS], pooling=e.PoolingOptions(mode=e.POOLING_MODE_POOLER)
            ),
            "INVALID_COMBINATION",
            "pooling.mode",
        ),
    ],
)
def test_layers_and_heads_that_cannot_be(options: e.EncodingOptions, reason: str, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(options)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, f"options.{field}")


@pytest.mark.parametrize(
    ("options", "there"),
    [
        (e.EncodingOptions(outputs=[HIDDEN], hidden_state_layers=[-7]), "-7 is not between -6 and 5"),
        (e.EncodingOptions(outputs=[WEIGHTS], attention_heads=[-4]), "-4 is not between -3 and 2"),
        (e.EncodingOptions(outputs=[WEIGHTS], attention_layers=[-6]), "-6 is not between 1 and 5, or -5 and -1"),
        (e.EncodingOptions(outputs=[WEIGHTS], attention_layers=[0]), "0 is not between 1 and 5, or -5 and -1"),
    ],
)
def test_numbers_out_of_range_are_told_all_that_there_are(options: e.EncodingOptions, there: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(options)
    assert raised.value.violations[0].description == there


def test_the_plan_of_options_that_came_before_is_remembered() -> None:
    model: Any = SimpleNamespace(name="mine", description=description(), plans=Memo(8))
    plan = plan_of(pooling(mode=e.POOLING_MODE_CLS), model)
    assert plan == parse(pooling(mode=e.POOLING_MODE_CLS))
    assert plan_of(pooling(mode=e.POOLING_MODE_CLS), model) is plan
    assert plan_of(pooling(mode=e.POOLING_MODE_MAX), model) == parse(pooling(mode=e.POOLING_MODE_MAX))
    for _ in range(2):
        with pytest.raises(RequestError) as raised:
            plan_of(pooling(mode=UNKNOWN), model)
        assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_ENUM", "options.pooling.mode")


def test_long_prompts_are_not_remembered() -> None:
    model: Any = SimpleNamespace(name="mine", description=description(), plans=Memo(8))
    options = e.EncodingOptions(prompt="p" * 2000)
    assert plan_of(options, model) == plan_of(options, model)
    assert plan_of(options, model) is not plan_of(options, model)
