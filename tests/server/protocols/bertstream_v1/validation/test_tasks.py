from __future__ import annotations

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.tasks.base import require_head
from bertstream.server.core.tasks.labels import own_function
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_function,
    effective_priority,
    parse_count,
    parse_function,
    parse_priority,
    parse_task_truncation,
    refuse_texts,
    require_mask,
)
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import BULK, INTERACTIVE
from tests.server.protocols.bertstream_v1.validation.support import description, refused

MASK = {"mask": ("<mask>", 4)}


def test_heads() -> None:
    require_head(description(heads=("fill_mask",)), "fill_mask")
    with pytest.raises(RequestError, match="heads that it has: none") as raised:
        require_head(description(), "fill_mask")
    assert refused(raised)[:2] == ("FAILED_PRECONDITION", "HEAD_NOT_AVAILABLE")
    assert raised.value.metadata == {"head": "fill_mask", "heads": ""}


def test_masks() -> None:
    assert require_mask(description(heads=("fill_mask",), special_tokens=MASK)) == ("<mask>", 4)
    with pytest.raises(RequestError) as raised:
        require_mask(description(heads=("fill_mask",)))
    assert refused(raised)[:2] == ("FAILED_PRECONDITION", "HEAD_NOT_SUITABLE")


def test_priorities() -> None:
    assert parse_priority(types_pb2.PRIORITY_UNSPECIFIED, BULK, "p") == BULK
    assert parse_priority(types_pb2.PRIORITY_INTERACTIVE, BULK, "p") == INTERACTIVE
    assert effective_priority(BULK) == types_pb2.PRIORITY_BULK
    with pytest.raises(RequestError) as raised:
        parse_priority(7, BULK, "options.priority")
    assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_ENUM", "options.priority")


def test_functions() -> None:
    assert parse_function(tasks_pb2.SCORE_FUNCTION_UNSPECIFIED, "sigmoid", "f") == "sigmoid"
    assert parse_function(tasks_pb2.SCORE_FUNCTION_NONE, "sigmoid", "f") == "none"
    assert effective_function(own_function("softmax")) == tasks_pb2.SCORE_FUNCTION_SOFTMAX
    with pytest.raises(RequestError) as raised:
        parse_function(7, "none", "options.function")
    assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_ENUM", "options.function")


def test_a_task_may_cut_one_text_of_a_pair_by_default() -> None:
    options = types_pb2.TruncationOptions(max_length=9, side=types_pb2.TRUNCATION_SIDE_LEFT)
    found = parse_task_truncation(options, description(), "t", "only_second")
    assert (found.strategy, found.max_length, found.side) == ("only_second", 9, "left")
    assert options.strategy == types_pb2.TRUNCATION_STRATEGY_UNSPECIFIED  # the request is as it was
    options.strategy = types_pb2.TRUNCATION_STRATEGY_REFUSE
    assert parse_task_truncation(options, description(), "t", "only_second").strategy == "refuse"
    assert parse_task_truncation(types_pb2.TruncationOptions(), description(), "t").strategy == "longest_first"
    with pytest.raises(RequestError) as raised:
        parse_task_truncation(types_pb2.TruncationOptions(max_length=513), description(), "options.truncation")
    assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_RANGE", "options.truncation.max_length")


@pytest.mark.parametrize(("value", "expected"), [(0, 5), (1, 1), (10, 10), (11, None), (-1, None)])
def test_counts(value: int, expected: int | None) -> None:
    if expected is not None:
        assert parse_count(value, 5, 10, "options.top_k") == expected
        return
    with pytest.raises(RequestError) as raised:
        parse_count(value, 5, 10, "options.top_k")
    assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_RANGE", "options.top_k")


def test_lists_of_texts() -> None:
    refuse_texts(["a", "b", "A"], "labels", "INVALID_LABEL")
    for bad in (["a", ""], ["a", "\t"], ["a", "a"]):
        with pytest.raises(RequestError) as raised:
            refuse_texts(bad, "labels", "INVALID_LABEL")
        assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_LABEL", "labels[1]")
