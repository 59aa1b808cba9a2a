"""Arguments as fields of messages: what is taken, and what is refused by the argument's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bertstream.client import InvalidArgument
from bertstream.client._fields import flag, numbers_of, optional_real, set_fields, strings_of, whole
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tasks_pb2 as tasks

LISTS: list[tuple[Any, list[int]]] = [
    (None, []),
    ([], []),
    (0, [0]),
    (np.int64(2), [2]),
    (np.array(2), [2]),
    (np.array([0]), [0]),
    (np.array([1, -2], np.int8), [1, -2]),
    (np.array([]), []),
    ((1, 2), [1, 2]),
    (range(3), [0, 1, 2]),
    ({7}, [7]),
    (iter([1, 2]), [1, 2]),
    ([np.int32(1), 2], [1, 2]),
    (pd.Series([1, 2]), [1, 2]),
]


def described(given: object) -> str:
    """Return a name that is the same in every process."""
    shown = repr(given)
    return type(given).__name__ if " at 0x" in shown else shown


@pytest.mark.parametrize(("given", "expected"), LISTS, ids=described)
def test_lists_of_whole_numbers(given: Any, expected: list[int]) -> None:
    found = numbers_of(given, "layers")
    assert found == expected
    assert {type(number) for number in found} <= {int}


@pytest.mark.parametrize(
    "given",
    [True, 1.0, "1", b"1", object(), [True], [1.0], ["1"], [None], [[1]], np.array([1.0]), np.array([[1]]), np.True_],
    ids=described,
)
def test_what_is_no_list_of_whole_numbers(given: Any) -> None:
    with pytest.raises(TypeError, match="layers must be a whole number"):
        numbers_of(given, "layers")


def test_ranges_of_whole_numbers() -> None:
    assert whole(np.uint8(3), "top_k", 1) == 3
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        whole(0, "top_k", 1)
    with pytest.raises(ValueError, match=r"layers must be at most 2147483647"):
        numbers_of([0, 2**40], "layers")


def test_numbers_and_switches() -> None:
    assert (optional_real(np.float32(0.5), "top_p"), optional_real(None, "top_p")) == (0.5, None)
    with pytest.raises(TypeError, match="top_p must be a number, not 'x'"):
        optional_real("x", "top_p")
    with pytest.raises(ValueError, match="top_p is larger than any float"):
        optional_real(10**400, "top_p")
    assert (flag(np.bool_(True), "overflow"), flag(0, "overflow")) == (True, False)
    with pytest.raises(TypeError, match="overflow must be True or False, not 'no'"):
        flag("no", "overflow")


def test_lists_of_strings() -> None:
    assert strings_of(np.array(["a", "b"]), "labels") == ["a", "b"]
    assert strings_of(None, "labels") == []
    for given in ("a", 5, [b"a"], [5]):
        with pytest.raises(TypeError, match="labels must be a list of str"):
            strings_of(given, "labels")
    with pytest.raises(InvalidArgument, match=r"options.labels\[1\] is not valid Unicode"):
        strings_of(["a", "\ud800"], "labels")


@pytest.mark.parametrize(
    ("message", "field", "value", "what"),
    [
        (encoding.EncodingOptions(), "prompt", 5, "a str"),
        (encoding.EncodingOptions(), "model", b"\xff", "a str"),
        (encoding.PoolingOptions(), "normalize", "yes", "True or False"),
        (encoding.PoolingOptions(), "normalize", 2**70, "True or False"),
        (encoding.PoolingOptions(), "dimensions", "2", "a whole number"),
        (tasks.ClassifyTokenOptions(), "threshold", "x", "a number"),
    ],
)
def test_a_field_of_another_type(message: Any, field: str, value: Any, what: str) -> None:
    with pytest.raises(TypeError, match=f"{field} must be {what}, not "):
        set_fields(message, **{field: value})


def test_a_field_that_is_not_given_stays_unset() -> None:
    assert not set_fields(encoding.PoolingOptions(), normalize=None).HasField("normalize")


def test_a_field_that_is_not_valid_unicode() -> None:
    with pytest.raises(InvalidArgument, match=r"options.prompt is not valid Unicode") as caught:
        set_fields(encoding.EncodingOptions(), prompt="a\ud800")
    assert caught.value.fields[0].path == "options.prompt"
