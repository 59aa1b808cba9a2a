from __future__ import annotations

from typing import Any

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.tokenization import Pairs, Texts
from bertstream.server.protocols.http.tasks.inputs import matched, pairs_of, texts_of, texts_or_pairs_of

PATHS = ("question", "context")


@pytest.mark.parametrize(
    ("read", "given", "inputs", "single"),
    [
        (texts_of, "a", Texts(["a"]), True),
        (texts_of, ["a"], Texts(["a"]), False),
        (texts_or_pairs_of, "a", Texts(["a"]), True),
        (texts_or_pairs_of, ["a", "b"], Texts(["a", "b"]), False),
        (texts_or_pairs_of, [["a", "b"]], Pairs(["a"], ["b"]), False),
        (pairs_of, ["a", "b"], Pairs(["a"], ["b"]), True),
        (pairs_of, [["a", "b"], ["c", "d"]], Pairs(["a", "c"], ["b", "d"]), False),
    ],
)
def test_texts_and_pairs(read: Any, given: Any, inputs: Any, single: bool) -> None:
    sent = read(given, "inputs", 4)
    assert (sent.inputs, sent.single) == (inputs, single)


@pytest.mark.parametrize(
    ("read", "given", "reason", "path"),
    [
        (texts_of, [], "INVALID_EMPTY_LIST", "inputs"),
        (texts_of, ["a"] * 5, "REQUEST_TOO_LARGE", "inputs"),
        (texts_or_pairs_of, [], "INVALID_EMPTY_LIST", "inputs"),
        (texts_or_pairs_of, ["a", ["b", "c"]], "INVALID_TYPE", "inputs[1]"),
        (texts_or_pairs_of, [["a", "b"], "c"], "INVALID_TYPE", "inputs[1]"),
        (texts_or_pairs_of, [["a"]], "INVALID_TYPE", "inputs[0]"),
        (texts_or_pairs_of, [["a", "b"]] * 5, "REQUEST_TOO_LARGE", "inputs"),
        (pairs_of, ["a", "b", "c"], "INVALID_TYPE", "inputs[0]"),
        (pairs_of, ["a", ["b", "c"]], "INVALID_TYPE", "inputs[0]"),
        (pairs_of, [], "INVALID_EMPTY_LIST", "inputs"),
    ],
)
def test_what_is_wrong_is_named(read: Any, given: Any, reason: str, path: str) -> None:
    with pytest.raises(RequestError) as raised:
        read(given, "inputs", 4)
    assert (raised.value.reason, raised.value.violations[0].field) == (reason, path)


@pytest.mark.parametrize(
    ("first", "second", "pairs", "paths"),
    [
        ("a", "b", [("a", "b")], ["question", "question", "context"]),
        (["a", "c"], ["b", "d"], [("a", "b"), ("c", "d")], ["question[0]", "question[0]", "context[0]"]),
        (["a", "c"], "b", [("a", "b"), ("c", "b")], ["question[0]", "question[0]", "context"]),
        ("a", ["b", "d"], [("a", "b"), ("a", "d")], ["context[0]", "question", "context[0]"]),
    ],
)
def test_two_fields_are_matched(first: Any, second: Any, pairs: list[tuple[str, str]], paths: list[str]) -> None:
    sent = matched(first, second, PATHS, 4)
    assert isinstance(sent.inputs, Pairs)
    assert list(zip(sent.inputs.firsts, sent.inputs.seconds, strict=True)) == pairs
    assert [sent.at(0, sequence) for sequence in (None, 0, 1)] == paths


@pytest.mark.parametrize(
    ("first", "second", "reason", "path"),
    [
        (["a"], ["b", "c"], "INVALID_LENGTHS", "context"),
        ([], [], "INVALID_EMPTY_LIST", "question"),
        ("a", [], "INVALID_EMPTY_LIST", "context"),
        ("a", ["b"] * 5, "REQUEST_TOO_LARGE", "context"),
    ],
)
def test_fields_that_do_not_match(first: Any, second: Any, reason: str, path: str) -> None:
    with pytest.raises(RequestError) as raised:
        matched(first, second, PATHS, 4)
    assert (raised.value.reason, raised.value.violations[0].field) == (reason, path)
