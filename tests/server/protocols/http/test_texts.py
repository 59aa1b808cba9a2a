from __future__ import annotations

from typing import Any

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.tokenization import Ids, Pairs, Texts
from bertstream.server.protocols.http.texts import items_of, sent_of


@pytest.mark.parametrize(
    ("given", "lists", "single"),
    [([1, 2], [2], True), ([[1, 2], [3]], [2, 1], False), ([[]], [0], False)],
)
def test_token_ids(given: Any, lists: list[int], single: bool) -> None:
    sent = sent_of(given, "input", 8)
    assert isinstance(sent.inputs, Ids)
    assert (sent.inputs.lengths.tolist(), sent.single) == (lists, single)


def test_texts() -> None:
    assert sent_of("a", "input", 8).inputs == Texts(["a"])
    sent = sent_of(["a", "b"], "input", 8)
    assert (sent.inputs, sent.at(1)) == (Texts(["a", "b"]), "input[1]")
    assert sent_of(list(range(100)), "input", 8).inputs.lengths.tolist() == [100]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "reason", "path"),
    [
        ([], "INVALID_EMPTY_LIST", "input"),
        (["a"] * 9, "REQUEST_TOO_LARGE", "input"),
        ([[1]] * 9, "REQUEST_TOO_LARGE", "input"),
        (["a", 1], "INVALID_TYPE", "input[1]"),
        ([1, "a"], "INVALID_TYPE", "input[1]"),
        ([[1], "a"], "INVALID_TYPE", "input[1]"),
        ([[1], [5, -1]], "INVALID_TOKEN_ID", "input[1][1]"),
        ([101, -1], "INVALID_TOKEN_ID", "input[1]"),
        ([1 << 31], "INVALID_TOKEN_ID", "input[0]"),
        ([10**40], "INVALID_TOKEN_ID", "input[0]"),
    ],
)
def test_what_is_wrong_is_named(given: Any, reason: str, path: str) -> None:
    with pytest.raises(RequestError) as raised:
        sent_of(given, "input", 8)
    assert (raised.value.reason, raised.value.violations[0].field) == (reason, path)


def test_texts_and_pairs_apart() -> None:
    singles, pairs = items_of(["a", ["b", "c"], ["d"]], "inputs", 8)
    assert (singles.sent.inputs, singles.places) == (Texts(["a", "d"]), [0, 2])
    assert (pairs.sent.inputs, pairs.places) == (Pairs(["b"], ["c"]), [1])
    assert singles.sent.at(1) == "inputs"
    (alone,) = items_of([["a", "b"], ["c", "d"]], "inputs", 8)
    assert alone.sent.at(1) == "inputs[1]"
    with pytest.raises(RequestError) as raised:
        items_of([["a"], ["a", "b", "c"]], "inputs", 8)
    assert raised.value.violations[0].field == "inputs[1]"
