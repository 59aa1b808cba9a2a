from __future__ import annotations

import pytest

from bertstream.server.core.memo import Memo


def test_what_was_made_is_not_made_again() -> None:
    memo, first = Memo[list[int]](2), [1]
    assert memo.get("a", lambda: first) is first
    assert memo.get("a", lambda: pytest.fail("made again")) is first


def test_what_was_asked_for_the_longest_ago_makes_room() -> None:
    memo = Memo[str](2)
    for name in ("a", "b", "a", "c"):
        memo.get(name, lambda: "first")
    assert [memo.get(name, lambda: "again") for name in ("a", "c", "b")] == ["first", "first", "again"]


def test_errors_are_not_remembered() -> None:
    memo = Memo[str](2)
    with pytest.raises(ZeroDivisionError):
        memo.get("a", lambda: str(1 // 0))
    assert memo.get("a", lambda: "made") == "made"
