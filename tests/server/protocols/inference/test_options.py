from __future__ import annotations

import math
from typing import Any

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.tokenization import Truncation
from bertstream.server.protocols.inference import inference_pb2 as pb
from bertstream.server.protocols.inference.options import (
    Options,
    pooling_of,
    priority_of,
    prompt_of,
    read_options,
    timeout_of,
    truncation_of,
)
from bertstream.workers.contract import BULK, INTERACTIVE
from tests.server.protocols.bertstream_v1.validation.support import description

DESCRIPTION = description(prompts={})
WITH_PROMPTS = description(prompts={"query": "q: ", "passage": "p: ", "other": "o: "}, default_prompt_name="other")


def options(**given: Any) -> Options:
    return Options(given)


def test_all_types_of_values() -> None:
    message = pb.ModelInferRequest()
    message.parameters["a"].bool_param = False
    message.parameters["b"].int64_param = -1
    message.parameters["c"].uint64_param = 2
    message.parameters["d"].string_param = ""
    message.parameters["e"].double_param = 0.5
    assert read_options(message.parameters).given == {"a": False, "b": -1, "c": 2, "d": "", "e": 0.5}
    message.parameters["f"].SetInParent()
    with pytest.raises(RequestError, match=r"parameters\[f\]: it has no value"):
        read_options(message.parameters)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("longest_first", "right")),
        ({"truncate": True}, ("longest_first", "right")),
        ({"truncate": False}, ("refuse", "right")),
        ({"truncate": "NONE"}, ("refuse", "right")),
        ({"truncate": "END"}, ("longest_first", "right")),
        ({"truncate": "START"}, ("longest_first", "left")),
        ({"truncation": "only_second", "truncation_side": "left"}, ("only_second", "left")),
    ],
)
def test_truncation(given: Any, expected: tuple[Any, Any]) -> None:
    strategy, side = expected
    assert truncation_of(options(**given), DESCRIPTION) == Truncation(strategy, DESCRIPTION.default_max_length, side)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("o: ", False)),
        ({"prompt": "x"}, ("x", True)),
        ({"prompt": ""}, ("", True)),
        ({"prompt_name": "query"}, ("q: ", True)),
        ({"input_type": "query"}, ("q: ", True)),
        ({"input_type": "passage"}, ("p: ", True)),
    ],
)
def test_prompts(given: Any, expected: tuple[str, bool]) -> None:
    assert prompt_of(options(**given), WITH_PROMPTS) == expected


def test_types_of_inputs_of_a_checkpoint_without_prompts() -> None:
    assert prompt_of(options(input_type="query"), DESCRIPTION)[0] == ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, BULK),
        ({"priority": 0}, BULK),
        ({"priority": 1}, INTERACTIVE),
        ({"priority": 7}, BULK),
        ({"priority": "interactive"}, INTERACTIVE),
    ],
)
def test_priorities(given: Any, expected: int) -> None:
    assert priority_of(options(**given), BULK) == expected


def test_timeouts_are_in_microseconds() -> None:
    assert timeout_of(options(timeout=1_500_000)) == 1.5
    assert timeout_of(options(timeout=0)) == timeout_of(options()) == math.inf


@pytest.mark.parametrize(
    ("read", "given", "about"),
    [
        (truncation_of, {"truncate": 1}, "it must be a string"),
        (truncation_of, {"truncate": "END", "truncation": "refuse"}, "there is truncation too"),
        (truncation_of, {"max_length": 0}, "0 is not between 1 and"),
        (truncation_of, {"max_length": True}, "it must be an int64"),
        (prompt_of, {"prompt": "x" * 10_001}, "10001 characters"),
        (prompt_of, {"prompt": "", "input_type": "query"}, "there is input_type too"),
        (prompt_of, {"input_type": "image"}, "'image' is none of query, passage"),
        (pooling_of, {"dimensions": 1 << 40}, "is not between 1 and"),
        (pooling_of, {"normalize": "yes"}, "it must be a bool"),
    ],
)
def test_what_makes_no_sense(read: Any, given: Any, about: str) -> None:
    with pytest.raises(RequestError, match=about):
        read(options(**given), DESCRIPTION)


def test_unknown_names() -> None:
    with pytest.raises(RequestError, match=r"parameters\[b\]: it means nothing for these outputs; what does: a, c"):
        options(a=1, b=2).check_names({"c", "a"})


def test_a_name_stays_within_one_line_of_a_message() -> None:
    request = pb.ModelInferRequest()
    request.parameters["a\nb" + "c" * 100].SetInParent()
    with pytest.raises(RequestError) as caught:
        read_options(request.parameters)
    assert caught.value.message == f"parameters[a?b{'c' * 77}]: it has no value"
